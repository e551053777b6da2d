package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/e2e/rig"
	"gatehouse/e2e/rig/kube"
)

// The post's own right to its ConfigMap, and no other.
const configMapRole = `apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: post, namespace: %[1]s}
rules:
- {apiGroups: [""], resources: [configmaps], resourceNames: [proxy-config], verbs: [get, update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: post, namespace: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: post}
subjects: [{kind: ServiceAccount, name: post, namespace: %[1]s}]
`

const eventsRole = `apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: events, namespace: %[1]s}
rules:
- {apiGroups: [events.k8s.io], resources: [events], verbs: [create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: events, namespace: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: events}
subjects: [{kind: ServiceAccount, name: post, namespace: %[1]s}]
`

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// The configuration comes from a ConfigMap with the post's own rights; a
// change is in force within seconds, one with mistakes never, and is told.
func TestConfigMap(t *testing.T) {
	k := kube.Start(t)
	space := k.Namespace(t)
	web, admin := rig.Port(t), rig.Port(t)
	put := func(text string) {
		t.Helper()
		object, err := json.Marshal(map[string]any{
			"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "proxy-config", "namespace": space},
			"data": map[string]string{"traefik.toml": fmt.Sprintf("[entryPoints.http]\naddress = \"127.0.0.1:%d\"\n[entryPoints.traefik]\naddress = \"127.0.0.1:%d\"\n"+
				"[ping]\n[store]\nkind = \"memory\"\n[file]\n%s", web, admin, text)},
		})
		if err != nil {
			t.Fatal(err)
		}
		k.Apply(t, string(object))
	}
	route := func(to string) string {
		return "[frontends.a]\nbackend = \"a\"\n[frontends.a.routes.all]\nrule = \"PathPrefix:/\"\n[backends.a.servers.a]\nurl = \"" + to + "\"\n"
	}
	servers := map[string]string{}
	for _, name := range []string{"one", "two"} {
		s := &http.Server{Addr: fmt.Sprintf("127.0.0.1:%d", rig.Port(t)), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) })}
		go func() { _ = s.ListenAndServe() }()
		t.Cleanup(func() { _ = s.Close() })
		servers[name] = "http://" + s.Addr
	}
	put(route(servers["one"]))
	k.Apply(t, fmt.Sprintf(configMapRole, space))
	t.Setenv("KUBECONFIG", k.UserKubeconfig(t, space, "post"))
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	directory := t.TempDir()
	begin := func() (end func()) {
		ctx, stop := context.WithCancel(t.Context())
		var log lockedBuffer
		ended := make(chan error, 1)
		go func() {
			ended <- run(ctx, []string{"--configmap=" + space + "/proxy-config", "--store.directory=" + directory}, io.Discard, &log)
		}()
		end = sync.OnceFunc(func() {
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if t.Failed() {
				t.Log(log.String())
			}
		})
		t.Cleanup(end)
		return end
	}
	end := begin()
	says := func(what string, port int, path, want string) {
		t.Helper()
		var text string
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", port, path))
			if err != nil {
				text = err.Error()
				continue
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if text = string(body); strings.Contains(text, want) {
				return
			}
		}
		t.Errorf("%s: %s says %q, want %q", what, path, text, want)
	}
	says("at start", web, "/", "one")
	put(route(servers["two"]))
	says("after a change", web, "/", "two")
	k.Apply(t, fmt.Sprintf(eventsRole, space))
	put(route(servers["one"]) + "[nonsense]\n")
	says("a mistake", admin, "/ready", "nonsense")
	says("after a mistake", web, "/", "two")
	event(t, k, space, "ConfigurationRejected", "traefik.toml:")
	put("watch = true\n[lifeCycle]\ngraceTimeOut = 3\n" + route(servers["one"]))
	says("other settings", admin, "/ready", "after a restart")
	says("routes beside them", web, "/", "one")
	event(t, k, space, "RestartNeeded", "Routes are in force")
	put(route(servers["two"]))
	says("back", web, "/", "two")
	says("nothing to tell", admin, "/ready", `"reason": ""`)

	// It starts while the API server is away, with what it had.
	end()
	k.KillAPI()
	begin()
	says("started from the copy", web, "/", "two")
	says("which is told", admin, "/ready", "this replica's copy")
	if err := k.StartAPI(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(route(servers["one"]))
	says("the API server is back", web, "/", "one")
	says("nothing to tell again", admin, "/ready", `"reason": ""`)
}

func event(t *testing.T, k *kube.Kube, space, reason, note string) {
	t.Helper()
	var said string
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		out, err := k.Kubectl(t.Context(), "", "get", "events", "-n", space, "-o", `jsonpath={range .items[*]}{.involvedObject.kind} {.reason} {.message}{"\n"}{end}`)
		if said = out; err == nil && strings.Contains(said, "ConfigMap "+reason) && strings.Contains(said, note) {
			return
		}
	}
	t.Errorf("the Events are\n%s, want %s: %s", said, reason, note)
}

func TestTakeConfigMap(t *testing.T) {
	for _, c := range []struct{ args, where, rest, trouble string }{
		{"--configmap=a/b --debug", "a/b", "--debug", ""},
		{"--debug --configmap a/b", "a/b", "--debug", ""},
		{"--ConfigMap a/b", "a/b", "", ""},
		{"-c x", "", "-c x", ""},
		{"--configmap", "", "", "needs NAMESPACE/NAME"},
		{"--configmap=a", "", "", "is not NAMESPACE/NAME"},
		{"--configmap=a/b/c", "", "", "is not NAMESPACE/NAME"},
	} {
		where, rest, err := takeConfigMap(strings.Fields(c.args))
		if c.trouble != "" {
			if err == nil || !strings.Contains(err.Error(), c.trouble) {
				t.Errorf("%s: %v", c.args, err)
			}
			continue
		}
		if err != nil || where != c.where || strings.Join(rest, " ") != c.rest {
			t.Errorf("%s: %q, %q, %v", c.args, where, rest, err)
		}
	}
}
