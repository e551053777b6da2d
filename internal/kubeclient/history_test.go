package kubeclient

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// script is an API server that answers each request for ConfigMaps with the
// next of its lines: what a real one does only after a minute (bookmarks), or
// by chance. Between its lines it says nothing.
type script struct {
	t     *testing.T
	steps []step

	mu    sync.Mutex
	asked []string
}

// step is an answer to a list ("list") or to a watch from a version ("watch 10").
type step struct {
	want   string
	status int
	lines  []string // JSON; a watch ends after them
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	asked := "list"
	if q := r.URL.Query(); q.Get("watch") != "" {
		asked = "watch " + q.Get("resourceVersion")
		if q.Get("allowWatchBookmarks") != "true" {
			asked += " without bookmarks"
		}
	}
	s.mu.Lock()
	n := len(s.asked)
	s.asked = append(s.asked, asked)
	s.mu.Unlock()
	if n >= len(s.steps) {
		<-r.Context().Done() // all has been said
		return
	}
	if s.steps[n].want != asked {
		s.t.Errorf("request %d is %q, want %q", n, asked, s.steps[n].want)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(s.steps[n].status)
	for _, line := range s.steps[n].lines {
		_, _ = fmt.Fprintln(w, line)
		_ = http.NewResponseController(w).Flush()
	}
}

// object is a ConfigMap as JSON.
func object(name, value string, version int) string {
	return fmt.Sprintf(`{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":%q,"namespace":"n","uid":"u-%s","resourceVersion":"%d"},"data":{"v":%q}}`, name, name, version, value)
}

func objectList(version int, objects ...string) string {
	return fmt.Sprintf(`{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"%d"},"items":[%s]}`, version, strings.Join(objects, ","))
}

func event(kind, object string) string { return fmt.Sprintf(`{"type":%q,"object":%s}`, kind, object) }

func bookmark(version int) string {
	return event("BOOKMARK", fmt.Sprintf(`{"kind":"ConfigMap","apiVersion":"v1","metadata":{"resourceVersion":"%d"}}`, version))
}

func status(code int, reason, message string) string {
	text, err := json.Marshal(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message})
	if err != nil {
		panic(err)
	}
	return string(text)
}

// A mirror goes on where a bookmark says, lists anew when history is lost, and
// waits for a kind that is not there; what did not change is never told.
func TestHistory(t *testing.T) {
	gone := status(http.StatusGone, "Expired", "too old resource version: 10 (90)")
	for _, c := range []struct {
		name  string
		steps []step
		told  []string
	}{
		{"a bookmark", []step{
			{"list", 200, []string{objectList(10, object("a", "1", 5))}},
			{"watch 10", 200, []string{bookmark(50)}},
			{"watch 50", 200, []string{event("MODIFIED", object("a", "2", 60)), bookmark(70)}},
			{"watch 70", 200, []string{event("DELETED", object("a", "2", 80))}},
		}, []string{"a=1", "a=1 -> a=2", "a=2 -> nothing"}},
		{"410 at once", []step{
			{"list", 200, []string{objectList(10, object("a", "1", 5), object("b", "1", 6), object("c", "1", 7))}},
			{"watch 10", 410, []string{gone}},
			{"list", 200, []string{objectList(90, object("a", "1", 5), object("b", "2", 80))}},
			{"watch 90", 200, []string{event("ADDED", object("d", "1", 95))}},
		}, []string{"a=1", "b=1", "b=1 -> b=2", "c=1", "c=1 -> nothing", "d=1"}},
		{"410 in the middle", []step{
			{"list", 200, []string{objectList(10, object("a", "1", 5))}},
			{"watch 10", 200, []string{event("MODIFIED", object("a", "2", 20)), event("ERROR", gone)}},
			{"list", 200, []string{objectList(90, object("a", "3", 80))}},
		}, []string{"a=1", "a=1 -> a=2", "a=2 -> a=3"}},
		{"made anew under the same name", []step{
			{"list", 200, []string{objectList(10, object("a", "1", 5))}},
			{"watch 10", 410, []string{gone}},
			{"list", 200, []string{objectList(90, strings.Replace(object("a", "1", 5), "u-a", "u-b", 1))}},
		}, []string{"a=1", "a=1 -> a=1"}},
		{"no such kind, for a while", []step{
			{"list", 404, []string{status(http.StatusNotFound, "NotFound", "the server could not find the requested resource")}},
			{"list", 404, []string{status(http.StatusNotFound, "NotFound", "the server could not find the requested resource")}},
			{"list", 200, []string{objectList(10, object("a", "1", 5))}},
			{"watch 10", 200, []string{bookmark(20)}},
		}, []string{"a=1"}},
		{"a list that breaks off", []step{
			{"list", 200, []string{objectList(10, object("a", "1", 5))}},
			{"watch 10", 410, []string{gone}},
			{"list", 200, []string{`{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"90"},"items":[`}},
			{"list", 200, []string{objectList(90, object("a", "1", 5))}},
			{"watch 90", 200, []string{event("DELETED", object("a", "1", 95))}},
		}, []string{"a=1", "a=1 -> nothing"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := &script{t: t, steps: c.steps}
			server := httptest.NewServer(s)
			t.Cleanup(server.Close)
			client := open(t, Options{Endpoint: server.URL, Token: "t"})
			var seen changes
			m := ConfigMaps(client).Mirror(Selection{Namespace: "n"}, seen.note)
			follow(t, m)
			eventually(t, 30*time.Second, "all is told", func() error {
				seen.mu.Lock()
				defer seen.mu.Unlock()
				told := slices.Sorted(slices.Values(seen.list)) // a list has no order
				want := slices.Sorted(slices.Values(c.told))
				if !slices.Equal(told, want) {
					return fmt.Errorf("told %q, want %q", told, want)
				}
				return nil
			})
			eventually(t, 30*time.Second, "it goes on", func() error {
				s.mu.Lock()
				defer s.mu.Unlock()
				if len(s.asked) <= len(c.steps) {
					return fmt.Errorf("asked %q", s.asked)
				}
				return m.Trouble()
			})
		})
	}
}
