package config

import (
	"reflect"
	"slices"
	"strings"
)

// envPrefix begins every variable that is ours.
const envPrefix = "GATEHOUSE_"

// ParseEnv turns environment variables ("NAME=value") into a Node of the
// static schema: GATEHOUSE_ETCD_ENDPOINT is etcd.endpoint. A list of sections
// is written with semicolons (GATEHOUSE_ACME_DOMAINS="a.com,b.a.com;c.com").
// GATEHOUSE_CONFIGFILE is -c and comes back as configFile. Left alone are
// GATEHOUSE_TEST_... and what Kubernetes and Docker set for a service that is
// itself called gatehouse.
func ParseEnv(environ []string) (n *Node, configFile string, problems []Problem) {
	t := newTree(Origin{Provider: "environment", Source: "environment"})
	sorted := slices.Clone(environ)
	slices.Sort(sorted) // a section's own switch comes before its keys
	for _, entry := range sorted {
		name, value, ok := strings.Cut(entry, "=")
		if !ok || !strings.HasPrefix(name, envPrefix) || notOurs(name, value) {
			continue
		}
		o := Origin{Provider: "environment", Source: "environment", Key: name}
		leaf, notes := leaf(value, o)
		problems = append(problems, notes...)
		path := strings.Split(strings.ToLower(strings.TrimPrefix(name, envPrefix)), "_")
		if len(path) == 1 && path[0] == "configfile" {
			configFile = leaf.Value.(string)
			continue
		}
		to, at, known := resolve(reflect.TypeFor[Static](), path)
		if at >= 0 {
			problems = append(problems, Problem{Origin: o, Message: "unknown variable", Allowed: envHelp(path, at, to.path, known)})
			continue
		}
		t.set(to.path, leaf, false)
	}
	return t.root, configFile, problems
}

func envHelp(path []string, at int, good, known []string) string {
	near := nearest(path[at], known)
	if near == "" {
		return "variables are named after the keys: " + envPrefix + "ETCD_ENDPOINT is etcd.endpoint"
	}
	return "did you mean " + envPrefix + strings.ToUpper(strings.Join(append(good, near), "_")) + "?"
}

// notOurs recognises variables that bear our prefix and are not meant for us:
// those of tests, and the links that Kubernetes and Docker set for a service
// named gatehouse or gatehouse-something.
func notOurs(name, value string) bool {
	if strings.HasPrefix(name, envPrefix+"TEST_") {
		return true
	}
	for _, mark := range []string{"_SERVICE_HOST", "_SERVICE_PORT"} {
		if i := strings.Index(name, mark); i >= 0 && (i+len(mark) == len(name) || name[i+len(mark)] == '_') {
			return true
		}
	}
	i := strings.Index(name, "_PORT")
	if i < 0 {
		return false
	}
	for _, scheme := range []string{"tcp://", "udp://", "sctp://"} {
		if strings.HasPrefix(value, scheme) {
			return true
		}
	}
	rest := name[i+len("_PORT"):]
	return strings.HasPrefix(rest, "_") && (strings.Contains(rest, "_TCP") || strings.Contains(rest, "_UDP") || strings.Contains(rest, "_SCTP"))
}
