package kubeclient

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"gatehouse/e2e/rig/kube"
)

func open(t *testing.T, o Options) *Client {
	t.Helper()
	c, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func eventually(t *testing.T, d time.Duration, what string, check func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(d); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("%s, not within %v: %v", what, d, err)
}

// TestServer shares one API server between what can share it.
func TestServer(t *testing.T) {
	k := kube.Start(t)
	c := open(t, Options{Kubeconfig: k.Kubeconfig})
	if err := c.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Run("objects", func(t *testing.T) { testObjects(t, c, k.Namespace(t)) })
	t.Run("mirror", func(t *testing.T) { testMirror(t, c, k.Namespace(t)) })
	t.Run("one name", func(t *testing.T) { testOneName(t, k, c) })
	t.Run("rights", func(t *testing.T) { testRights(t, k) })
	t.Run("token", func(t *testing.T) { testToken(t, k) })
	t.Run("tell", func(t *testing.T) { testTell(t, c, k.Namespace(t)) })
	t.Run("away", func(t *testing.T) { testAway(t, k, c, k.Namespace(t)) }) // last: it stops the server
}

func configMap(space, name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: space, Name: name}, Data: map[string]string{"v": value}}
}

func testObjects(t *testing.T, c *Client, space string) {
	ctx, maps := t.Context(), ConfigMaps(c)
	if _, err := maps.Get(ctx, space, "a"); !Gone(err) || !strings.HasPrefix(err.Error(), "get configmaps "+space+"/a of kubernetes https://") {
		t.Errorf("get of nothing: %v", err)
	}
	first, err := maps.Create(ctx, configMap(space, "a", "1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Create(ctx, configMap(space, "a", "1")); !Conflicts(err) {
		t.Errorf("create of what exists: %v", err)
	}
	second := first.DeepCopy()
	second.Data["v"] = "2"
	if second, err = maps.Update(ctx, second); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Update(ctx, first); !Conflicts(err) {
		t.Errorf("update of an old version: %v", err)
	}
	patched, err := maps.Patch(ctx, space, "a", types.MergePatchType, []byte(`{"data":{"v":"3"}}`))
	if err != nil || patched.Data["v"] != "3" {
		t.Errorf("patch: %v, %v", patched, err)
	}
	if err := maps.Delete(ctx, space, "a", second.ResourceVersion); !Conflicts(err) {
		t.Errorf("delete of an old version: %v", err)
	}
	if list, err := maps.List(ctx, Selection{Namespace: space, Fields: "metadata.name=a"}); err != nil || len(list) != 1 || list[0].Data["v"] != "3" {
		t.Errorf("list: %v, %v", list, err)
	}
	if err := maps.Delete(ctx, space, "a", patched.ResourceVersion); err != nil {
		t.Error(err)
	}
	if err := maps.Delete(ctx, space, "a", ""); !Gone(err) {
		t.Errorf("delete of nothing: %v", err)
	}
}

// changes notes what a mirror tells.
type changes struct {
	mu   sync.Mutex
	list []string
}

func (l *changes) note(before, after *corev1.ConfigMap) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := "nothing"
	if after != nil {
		text = after.Name + "=" + after.Data["v"]
	}
	if before != nil {
		text = before.Name + "=" + before.Data["v"] + " -> " + text
	}
	l.list = append(l.list, text)
}

func (l *changes) is(want ...string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(l.list, want) {
		return fmt.Errorf("told %q, want %q", l.list, want)
	}
	return nil
}

func follow[T any, P Object[T]](t *testing.T, m *Mirror[T, P]) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = m.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
}

func testMirror(t *testing.T, c *Client, space string) {
	ctx, maps := t.Context(), ConfigMaps(c)
	put := func(name, value string) {
		t.Helper()
		if _, err := maps.Create(ctx, configMap(space, name, value)); err == nil {
			return
		}
		if _, err := maps.Patch(ctx, space, name, types.MergePatchType, []byte(`{"data":{"v":"`+value+`"}}`)); err != nil {
			t.Fatal(err)
		}
	}
	put("b", "1")
	var seen changes
	m := maps.Mirror(Selection{Namespace: space, Fields: "metadata.name!=kube-root-ca.crt"}, seen.note)
	follow(t, m)
	<-m.Synced()
	put("a", "1")
	put("b", "2")
	if err := maps.Delete(ctx, space, "a", ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "all is told", func() error {
		return seen.is("b=1", "a=1", "b=1 -> b=2", "a=1 -> nothing")
	})
	if all := m.All(); len(all) != 1 || m.Get(space, "b") != all[0] || m.Get(space, "a") != nil || m.Trouble() != nil {
		t.Errorf("it holds %v, %v", all, m.Trouble())
	}
}

// testOneName: a right on one Secret by its name is enough to follow it.
func testOneName(t *testing.T, k *kube.Kube, admin *Client) {
	space := k.Namespace(t)
	k.Apply(t, fmt.Sprintf(`apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: one, namespace: %[1]s}
rules: [{apiGroups: [""], resources: [secrets], resourceNames: [mine], verbs: [list, watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: one, namespace: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: one}
subjects: [{kind: ServiceAccount, name: one, namespace: %[1]s}]
`, space))
	c := open(t, Options{Kubeconfig: k.UserKubeconfig(t, space, "one")})
	if c.Namespace() != space {
		t.Errorf("it lives in %s", c.Namespace())
	}
	mine := Secrets(c).Mirror(Selection{Namespace: space, Fields: "metadata.name=mine"}, nil)
	other := Secrets(c).Mirror(Selection{Namespace: space, Fields: "metadata.name=other"}, nil)
	follow(t, mine)
	follow(t, other)
	<-mine.Synced()
	if _, err := Secrets(admin).Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: space, Name: "mine"}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "the Secret is seen", func() error {
		if mine.Get(space, "mine") == nil {
			return mine.Trouble()
		}
		return nil
	})
	eventually(t, 5*time.Second, "the other is refused", func() error {
		if err := other.Trouble(); !Refused(err) || Gone(err) {
			return fmt.Errorf("trouble: %w", err)
		}
		return nil
	})
}

// testRights: without a right the mirror says so and keeps what it has; with
// it, it goes on by itself.
func testRights(t *testing.T, k *kube.Kube) {
	space := k.Namespace(t)
	c := open(t, Options{Kubeconfig: k.UserKubeconfig(t, space, "later")})
	m := ConfigMaps(c).Mirror(Selection{Namespace: space}, nil)
	var told changes
	m.Told = func(err error) { told.note(nil, configMap(space, fmt.Sprint(err != nil), "")) }
	follow(t, m)
	eventually(t, 5*time.Second, "it is refused", func() error {
		if err := m.Trouble(); !Refused(err) || !strings.HasPrefix(err.Error(), "list configmaps "+space+" of kubernetes https://") {
			return fmt.Errorf("trouble: %w", err)
		}
		return nil
	})
	role := fmt.Sprintf(`apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: later, namespace: %[1]s}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [list, watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: later, namespace: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: later}
subjects: [{kind: ServiceAccount, name: later, namespace: %[1]s}]
`, space)
	k.Apply(t, role)
	eventually(t, 10*time.Second, "it goes on", func() error {
		if len(m.All()) == 0 {
			return fmt.Errorf("trouble: %w", m.Trouble())
		}
		return m.Trouble()
	})
	if err := told.is("true=", "false="); err != nil {
		t.Error(err)
	}

}

// testToken: who we are, and whom we trust.
func testToken(t *testing.T, k *kube.Kube) {
	space := k.Namespace(t)
	token, err := k.Token(t.Context(), space, "who")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		token string
		knows bool
	}{{token, true}, {"nonsense", false}} {
		err := open(t, Options{Endpoint: k.Server, Token: c.token, CAFile: k.CA}).Ready(t.Context())
		if c.knows && err != nil || !c.knows && (!Refused(err) || strings.Contains(err.Error(), c.token)) {
			t.Errorf("token %.8s: %v", c.token, err)
		}
	}
	stranger := open(t, Options{Endpoint: k.Server, Token: token})
	if err := stranger.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate signed by unknown authority") {
		t.Errorf("a server nobody vouches for: %v", err)
	}
}

func testTell(t *testing.T, c *Client, space string) {
	object, err := ConfigMaps(c).Create(t.Context(), configMap(space, "a", "1"))
	if err != nil {
		t.Fatal(err)
	}
	n := News{
		About:   corev1.ObjectReference{APIVersion: "v1", Kind: "ConfigMap", Namespace: space, Name: "a", UID: object.UID, ResourceVersion: object.ResourceVersion},
		Warning: true, Reason: "Bad", Action: "Load", Note: strings.Repeat("ä", 800),
	}
	for _, replica := range []string{"one", "two"} {
		n.Replica = replica
		if err := c.Tell(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	list, err := Events(c).List(t.Context(), Selection{Namespace: space})
	if err != nil || len(list) != 1 || list[0].ReportingInstance != "one" || list[0].Note != strings.Repeat("ä", 512) || list[0].Type != "Warning" {
		t.Errorf("%v, %v", list, err)
	}
}

// testAway: while the server is away the mirror keeps what it has; what changed
// is seen within seconds of its return.
func testAway(t *testing.T, k *kube.Kube, c *Client, space string) {
	m := ConfigMaps(c).Mirror(Selection{Namespace: space, Fields: "metadata.name=a"}, nil)
	follow(t, m)
	if _, err := ConfigMaps(c).Create(t.Context(), configMap(space, "a", "1")); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "it is seen", func() error {
		if m.Get(space, "a") == nil {
			return fmt.Errorf("trouble: %w", m.Trouble())
		}
		return nil
	})
	k.KillAPI()
	eventually(t, 10*time.Second, "the trouble is known", func() error {
		if m.Trouble() == nil {
			return fmt.Errorf("none")
		}
		return nil
	})
	if m.Get(space, "a") == nil {
		t.Error("it forgot what it had")
	}
	if err := k.StartAPI(t.Context()); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	if err := k.Do(t.Context(), "PATCH", "/api/v1/namespaces/"+space+"/configmaps/a", map[string]any{"data": map[string]string{"v": "2"}}, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "the change is seen", func() error {
		if now := m.Get(space, "a"); now.Data["v"] != "2" {
			return fmt.Errorf("%v, trouble: %w", now.Data, m.Trouble())
		}
		return m.Trouble()
	})
	t.Logf("seen %v after the server's return", time.Since(back))
}
