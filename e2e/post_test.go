// Package e2e runs the whole product against real servers.
package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"gatehouse/e2e/rig"
	"gatehouse/e2e/scene"
)

// binary builds gatehouse once for all tests.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "gatehouse-e2e")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "gatehouse")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/gatehouse")
	cmd.Dir, cmd.Env = rig.Root(), append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// newScene makes a scene for a test; on failure the replicas' logs are shown.
func newScene(t *testing.T, o scene.Options) *scene.Scene {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir: a comma in a test's name would split paths given as flags.
	if o.Dir, err = os.MkdirTemp("", "scene"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(o.Dir) })
	o.Binary = path
	s, err := scene.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			showLogs(t, o.Dir)
		}
		s.Close()
	})
	return s
}

// showLogs shows what the replicas said, without the handshakes that the test
// itself breaks off while it waits for a certificate.
func showLogs(t *testing.T, dir string) {
	logs, _ := filepath.Glob(filepath.Join(dir, "replica-*.log"))
	for _, file := range logs {
		text, _ := os.ReadFile(file)
		var kept []string
		for line := range strings.Lines(string(text)) {
			if !strings.Contains(line, "TLS handshake error") {
				kept = append(kept, line)
			}
		}
		t.Logf("%s:\n%s", filepath.Base(file), strings.Join(kept[max(0, len(kept)-200):], ""))
	}
}

// startAll starts the replicas and waits for the post's certificate on all.
func startAll(t *testing.T, s *scene.Scene) {
	t.Helper()
	if err := s.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func oneOrder(t *testing.T, s *scene.Scene) {
	t.Helper()
	orders, certs := s.Proxy.Orders(scene.Names()...), s.Proxy.Certificates(scene.Names()...)
	if orders != 1 || certs != 1 {
		t.Errorf("the CA saw %d orders and gave %d certificates, want one of each", orders, certs)
	}
}

// TestThePostOnOneMachine is the published story, from storeconfig to HTTPS on
// three replicas, in each of its forms.
func TestThePostOnOneMachine(t *testing.T) {
	for name, o := range map[string]scene.Options{
		"etcd v2 DNS-01 by Route 53": {},
		"etcd v3 DNS-01 by Route 53": {V3: true},
		"etcd v2 HTTP-01":            {Challenge: "http-01"},
		"etcd v3 HTTP-01":            {V3: true, Challenge: "http-01"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, o)
			startAll(t, s)
			spread, err := s.Served(within(t, time.Minute), scene.Names()...)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("from the first replica that served the certificate to the last: %v", spread)
			if spread > time.Second {
				t.Errorf("the replicas served the certificate %v apart, want within 1 s", spread)
			}
			oneOrder(t, s)
			routes(t, s)
			dashboardAsksForThePassword(t, s)
			eventually(t, 30*time.Second, func() error {
				values, err := s.DNS.TXT(t.Context(), "_acme-challenge."+scene.Zone)
				if err == nil && len(values) > 0 {
					err = fmt.Errorf("left in the DNS: %q", values)
				}
				return err
			})
			oneOrder(t, s) // the host rules are covered by the certificate there is
		})
	}
}

// routes writes 1.x routing keys with etcdctl, and expects them in force on
// every replica: HTTP leads to HTTPS, HTTPS to the server.
func routes(t *testing.T, s *scene.Scene) {
	t.Helper()
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", r.Host, r.Header.Get("X-Forwarded-Proto"))
	}))
	t.Cleanup(origin.Close)
	addRoute(t, s, origin.URL)
	for _, r := range s.Alive() {
		client := clientFor(r)
		eventually(t, 10*time.Second, func() error {
			resp, err := client.Get("https://" + scene.Zone + "/x")
			if err != nil {
				return err
			}
			defer func() { _ = resp.Body.Close() }()
			var text strings.Builder
			_ = resp.Write(&text)
			if !strings.Contains(text.String(), scene.Zone+" https") {
				return fmt.Errorf("%s answers %s", r.Name, text.String())
			}
			return nil
		})
		resp, err := client.Get("http://" + scene.Zone + "/x?y=1")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if got := resp.Header.Get("Location"); resp.StatusCode != http.StatusFound || !strings.HasPrefix(got, "https://"+scene.Zone) || !strings.HasSuffix(got, "/x?y=1") {
			t.Errorf("%s redirects with %s to %q", r.Name, resp.Status, got)
		}
	}
}

// addRoute is what the post's readers type.
func addRoute(t *testing.T, s *scene.Scene, url string) {
	t.Helper()
	for key, value := range map[string]string{
		"backends/app/servers/one/url":   url,
		"frontends/app/backend":          "app",
		"frontends/app/routes/host/rule": "Host:" + scene.Zone,
	} {
		etcdctl(t, s, "/traefik/"+key, value)
	}
}

func etcdctl(t *testing.T, s *scene.Scene, key, value string) {
	t.Helper()
	verb, api := "set", "ETCDCTL_API=2"
	if s.V3() {
		verb, api = "put", "ETCDCTL_API=3"
	}
	cmd := exec.Command(rig.Binary(t, "etcdctl"), "--endpoints="+s.Etcd.URL(), verb, key, value)
	cmd.Env = append(os.Environ(), api)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("etcdctl %s %s: %v\n%s", verb, key, err, out)
	}
}

// clientFor sends every request to one replica, does not follow redirects and
// trusts any certificate (which is judged elsewhere).
func clientFor(r *scene.Replica) *http.Client {
	return &http.Client{
		Timeout:       5 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				to := r.HTTP()
				if strings.HasSuffix(addr, ":443") {
					to = r.HTTPS()
				}
				return new(net.Dialer).DialContext(ctx, network, to)
			},
		},
	}
}

func eventually(t *testing.T, d time.Duration, check func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(d); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("not within %v: %v", d, err)
}

func dashboardAsksForThePassword(t *testing.T, s *scene.Scene) {
	t.Helper()
	for _, r := range s.Alive() {
		resp, err := http.Get(r.API() + "/api/certificates")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: the API without a password says %s", r.Name, resp.Status)
		}
		var certs []struct{ State string }
		if err := r.Get(t.Context(), "/api/certificates", &certs); err != nil || len(certs) == 0 || certs[0].State != "valid" {
			t.Errorf("%s: certificates in the API: %+v, %v", r.Name, certs, err)
		}
		if err := r.Get(t.Context(), "/dashboard/", nil); err != nil {
			t.Error(err)
		}
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, r.API()+"/api/providers/web", strings.NewReader("{}"))
		req.SetBasicAuth(scene.User, scene.Password)
		resp, err = http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: readOnly, and PUT says %s", r.Name, resp.Status)
		}
	}
}

// TestCADownAtStart is traefik#2670: nobody retried, ever.
func TestCADownAtStart(t *testing.T) {
	t.Parallel()
	down := 2 * time.Minute
	if testing.Short() {
		down = 10 * time.Second
	}
	s := newScene(t, scene.Options{})
	s.CA.Kill()
	startAll(t, s)
	time.Sleep(down)
	back := time.Now()
	if err := s.CA.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Served(within(t, 3*time.Minute), scene.Names()...); err != nil {
		t.Fatal(err)
	}
	t.Logf("CA down for %v at start; certificate on all replicas %v after its return", down, time.Since(back).Round(100*time.Millisecond))
	oneOrder(t, s)
}

// TestHolderKilled is traefik#2671: a dead replica's lock stayed, and nobody
// took over.
func TestHolderKilled(t *testing.T) {
	for name, v3 := range map[string]bool{"etcd v2": false, "etcd v3": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// The double says PENDING for a while: long enough to be killed in.
			s := newScene(t, scene.Options{V3: v3, InSync: 4 * time.Second})
			startAll(t, s)
			var holder *scene.Replica
			eventually(t, 30*time.Second, func() error {
				if s.Proxy.Orders(scene.Names()...) == 0 {
					return fmt.Errorf("no order yet")
				}
				if holder = s.Holder(t.Context()); holder == nil {
					return fmt.Errorf("nobody holds the order's lease")
				}
				return nil
			})
			time.Sleep(time.Second) // it waits for the DNS now
			holder.Kill()
			killed := time.Now()
			if _, err := s.Served(within(t, 30*time.Second), scene.Names()...); err != nil {
				t.Fatal(err)
			}
			took := time.Since(killed)
			t.Logf("%s killed in the middle of the order; another served its certificate %v later", holder.Name, took.Round(10*time.Millisecond))
			if took > 8*time.Second {
				t.Errorf("another finished %v after the kill, want within 8 s", took)
			}
			oneOrder(t, s)
		})
	}
}

// TestStaleLockOfTraefik: the keys a dead 1.x pod leaves mean nothing to us.
func TestStaleLockOfTraefik(t *testing.T) {
	t.Parallel()
	s := newScene(t, scene.Options{})
	etcdctl(t, s, "/traefik/acme/account/lock", "6d1a6f0e-dead-4e0c-b5f7-pod-that-is-gone")
	etcdctl(t, s, "/traefik/acme/account/lock___lock", "6d1a6f0e-dead-4e0c-b5f7-pod-that-is-gone")
	etcdctl(t, s, "/traefik/leader", "6d1a6f0e-dead-4e0c-b5f7-pod-that-is-gone")
	startAll(t, s)
	if _, err := s.Served(within(t, time.Minute), scene.Names()...); err != nil {
		t.Fatal(err)
	}
	oneOrder(t, s)
}

// TestResolversThatRefuseSOA is traefik#2699: "Could not find the start of
// authority", though the zone was there.
func TestResolversThatRefuseSOA(t *testing.T) {
	for name, rcode := range map[string]int{"SERVFAIL": dns.RcodeServerFailure, "REFUSED": dns.RcodeRefused} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resolver := refusing(t, rcode)
			s := newScene(t, scene.Options{Extra: []string{"--acme.dnsChallenge.resolvers=" + resolver}})
			startAll(t, s)
			if _, err := s.Served(within(t, 90*time.Second), scene.Names()...); err != nil {
				t.Fatal(err)
			}
			oneOrder(t, s)
		})
	}
}

// refusing is a resolver with nothing good to say.
func refusing(t *testing.T, rcode int) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		_ = w.WriteMsg(new(dns.Msg).SetRcode(q, rcode))
	})}
	go func() { _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = server.Shutdown() })
	return conn.LocalAddr().String()
}

// TestEtcdDownUnderLoad: what is served stays served while the store is away,
// and changes arrive again once it is back.
func TestEtcdDownUnderLoad(t *testing.T) {
	t.Parallel()
	down := 5 * time.Minute
	if testing.Short() {
		down = 15 * time.Second
	}
	s := newScene(t, scene.Options{})
	startAll(t, s)
	if _, err := s.Served(within(t, time.Minute), scene.Names()...); err != nil {
		t.Fatal(err)
	}
	origin := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer origin.Close()
	addRoute(t, s, origin.URL)
	var urls []string
	for _, r := range s.Alive() {
		urls = append(urls, "https://"+r.HTTPS()+"/only/this") // served before and after the change below
		client := clientFor(r)
		eventually(t, 10*time.Second, func() error {
			resp, err := client.Get("https://" + scene.Zone + "/")
			if err == nil && resp.StatusCode != http.StatusOK {
				err = fmt.Errorf("%s", resp.Status)
			}
			return err
		})
	}
	load := scene.StartLoad(t.Context(), scene.Zone, 10*time.Millisecond, urls...)
	time.Sleep(time.Second)
	s.Etcd.Kill()
	time.Sleep(down)
	if err := s.Etcd.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	etcdctl(t, s, "/traefik/frontends/app/routes/path/rule", "PathPrefix:/only")
	for _, r := range s.Alive() {
		client := clientFor(r)
		eventually(t, 30*time.Second, func() error {
			resp, err := client.Get("https://" + scene.Zone + "/elsewhere")
			if err == nil && resp.StatusCode != http.StatusNotFound {
				err = fmt.Errorf("the change is not in force: %s", resp.Status)
			}
			return err
		})
	}
	t.Logf("etcd down for %v under %d requests; a change was in force on all replicas %v after its return",
		down, load.Sent.Load(), time.Since(back).Round(10*time.Millisecond))
	if errors := load.Stop(); len(errors) > 0 {
		t.Errorf("%d of %d requests failed: %q", load.Failed.Load(), load.Sent.Load(), errors)
	}
}
