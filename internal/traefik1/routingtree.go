package traefik1

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gatehouse/internal/config"
)

// namesBelow are the words after which the next part of a key is a name and
// stays as it is written; 1.x reads all other parts in lower case.
var namesBelow = []string{"backends", "frontends", "servers", "routes", "errors", "rateset", "tls", "tlsconfiguration",
	"customrequestheaders", "customresponseheaders", "sslproxyheaders", "routers", "middlewares", "services", "serverstransports"}

// RoutingTree is routing configuration of a file, in either form, as the tree
// that Tree reads back: lists by number, words in lower case, below root.
func RoutingTree(n *config.Node, root string) ([]Pair, []config.Problem) {
	w := routingWriter{}
	for _, f := range n.Fields {
		if isRoutingRoot(f.Name) {
			w.field(root, "", f)
		}
	}
	var pairs []Pair
	for _, p := range withFolders(w.pairs, root) {
		if p.Dir || p.Key != root {
			pairs = append(pairs, p)
		}
	}
	return pairs, w.problems
}

type routingWriter struct {
	pairs    []Pair
	problems []config.Problem
}

func (w *routingWriter) field(at, above string, f config.Field) {
	part := f.Name
	if !slices.Contains(namesBelow, above) {
		part = strings.ToLower(part)
	}
	if strings.Contains(part, "/") || part == "" {
		w.problems = append(w.problems, config.Problem{Origin: f.Origin, Object: "name " + part,
			Message: "a name in a key-value tree has no slash", Allowed: "another name"})
		return
	}
	w.node(at+"/"+part, strings.ToLower(part), f.Node)
}

func (w *routingWriter) node(at, above string, n *config.Node) {
	switch n.Kind {
	case config.Map:
		for _, f := range n.Fields {
			w.field(at, above, f)
		}
	case config.List:
		for i, item := range n.Items {
			w.node(at+"/"+strconv.Itoa(i), "", item)
		}
	default:
		if n.Value != nil {
			w.pairs = append(w.pairs, Pair{Key: at, Value: fmt.Sprint(n.Value)})
		}
	}
}
