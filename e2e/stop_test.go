package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"gatehouse/e2e/scene"
)

// TestStopHandsTheOrderOver: a replica that is told to stop in the middle of an
// order gives the lease back, it does not let it run out.
func TestStopHandsTheOrderOver(t *testing.T) {
	for name, v3 := range map[string]bool{"etcd v2": false, "etcd v3": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, scene.Options{V3: v3, InSync: 4 * time.Second})
			startAll(t, s)
			holder := holderOfTheOrder(t, s)
			if err := holder.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			told := time.Now()
			// The one that stops is not asked: clients it does not let in any
			// more ask again a second later.
			other := s.Replicas[0]
			if other == holder {
				other = s.Replicas[1]
			}
			var next *scene.Replica
			for next == nil || next == holder {
				if next = s.HolderSeenBy(within(t, 10*time.Second), other); time.Since(told) > 10*time.Second {
					t.Fatal("nobody took the order over")
				}
			}
			over := time.Since(told)
			select {
			case <-holder.Done():
			case <-time.After(10 * time.Second):
				t.Fatal("the process does not end")
			}
			t.Logf("%s told to stop in the middle of the order: %s had it %v later, the process ended after %v",
				holder.Name, next.Name, over.Round(time.Millisecond), time.Since(told).Round(time.Millisecond))
			if over > 500*time.Millisecond {
				t.Errorf("the order was handed over after %v: the lease ran out, it was not given back", over)
			}
			if _, err := s.Served(within(t, 30*time.Second), scene.Names()...); err != nil {
				t.Fatal(err)
			}
			oneOrder(t, s)
		})
	}
}

// holderOfTheOrder waits until a replica is in the middle of the order.
func holderOfTheOrder(t *testing.T, s *scene.Scene) (holder *scene.Replica) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		if s.Proxy.Orders(scene.Names()...) == 0 {
			return fmt.Errorf("no order yet")
		}
		if holder = s.Holder(t.Context()); holder == nil {
			return fmt.Errorf("nobody holds the order's lease")
		}
		return nil
	})
	return holder
}

// TestNothingLost: neither changes of the routing nor stopping and starting
// replicas one after the other costs a request.
func TestNothingLost(t *testing.T) {
	t.Parallel()
	s := newScene(t, scene.Options{})
	startAll(t, s)
	if _, err := s.Served(within(t, time.Minute), scene.Names()...); err != nil {
		t.Fatal(err)
	}
	var urls []string
	for range 2 {
		origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(5 * time.Millisecond)
			_, _ = w.Write(make([]byte, 2000))
		}))
		defer origin.Close()
		urls = append(urls, origin.URL)
	}
	addRoute(t, s, urls[0])
	for _, r := range s.Alive() {
		serves(t, r)
	}
	load := s.StartBalanced(t.Context(), 5*time.Millisecond, 8, "/")
	const changes = 30
	for i := range changes {
		etcdctl(t, s, "/traefik/backends/app/servers/one/url", urls[i%2])
		etcdctl(t, s, fmt.Sprintf("/traefik/frontends/more%d/backend", i), "app")
		etcdctl(t, s, fmt.Sprintf("/traefik/frontends/more%d/routes/host/rule", i), fmt.Sprintf("Host:%s;PathPrefix:/more%d", scene.Zone, i))
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("%d changes of the routing under %d requests", changes, load.Sent.Load())
	for i, r := range s.Replicas {
		if err := r.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		told := time.Now()
		select {
		case <-r.Done():
		case <-time.After(15 * time.Second):
			t.Fatalf("%s does not end", r.Name)
		}
		t.Logf("%s ended %v after SIGTERM, under load", r.Name, time.Since(told).Round(time.Millisecond))
		if err := s.Start(t.Context(), i); err != nil {
			t.Fatal(err)
		}
		serves(t, s.Replicas[i])
	}
	if errors := load.Stop(); len(errors) > 0 {
		t.Errorf("%d of %d requests failed: %q", load.Failed.Load(), load.Sent.Load(), errors)
	}
	t.Logf("three replicas stopped and started one after the other under %d requests in all", load.Sent.Load())
}

// serves waits until a replica serves the post's route.
func serves(t *testing.T, r *scene.Replica) {
	t.Helper()
	client := clientFor(r)
	eventually(t, 15*time.Second, func() error {
		resp, err := client.Get("https://" + scene.Zone + "/")
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s says %s", r.Name, resp.Status)
		}
		return nil
	})
}
