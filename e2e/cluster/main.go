// Command cluster runs the published story on this machine until Ctrl-C, for
// looking at and for killing replicas by hand: `make cluster`.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"gatehouse/e2e/rig"
	"gatehouse/e2e/scene"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := cluster(ctx)
	stop()
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func cluster(ctx context.Context) error {
	v3 := flag.Bool("v3", false, "etcd's v3 API instead of v2")
	challenge := flag.String("challenge", "dns-01", "dns-01 or http-01")
	pending := flag.Duration("pending", 5*time.Second, "how long Route 53 says PENDING: time to kill a holder in")
	flag.Parse()
	dir := filepath.Join(rig.Root(), ".run", "cluster")
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	fmt.Println("starting etcd, Pebble, Knot, the Route 53 double and three replicas ...")
	s, err := scene.New(ctx, scene.Options{
		Dir: dir, Binary: filepath.Join(rig.Root(), "bin", "gatehouse"), V3: *v3, Challenge: *challenge, InSync: *pending,
	})
	if err != nil {
		return err
	}
	defer s.Close()
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s for %s\n", r.Method, r.URL, r.Host)
	}))
	defer origin.Close()
	if err := s.StartAll(ctx); err != nil {
		return err
	}
	say(s, dir, origin.URL, *v3)
	go tell(ctx, s)
	<-ctx.Done()
	fmt.Println("stopping")
	return nil
}

// say prints what to look at and what to break.
func say(s *scene.Scene, dir, origin string, v3 bool) {
	first := s.Replicas[0]
	ctl := fmt.Sprintf("ETCDCTL_API=2 .cache/bin/etcdctl --endpoints=%s", s.Etcd.URL())
	set, list := "set", "ls traefik --recursive"
	if v3 {
		ctl = fmt.Sprintf("ETCDCTL_API=3 .cache/bin/etcdctl --endpoints=%s", s.Etcd.URL())
		set, list = "put", "get --prefix --keys-only /traefik"
	}
	fmt.Printf("\nReplicas (logs in %s):\n", dir)
	for _, r := range s.Replicas {
		fmt.Printf("  %s  https %s  dashboard %s/dashboard/ (%s / %s)  kill -9 %d\n", r.Name, r.HTTPS(), r.API(), scene.User, scene.Password, r.Pid())
	}
	fmt.Printf(`
Look:
  %[1]s %[2]s
  curl -su %[3]s:%[4]s %[5]s/api/cluster
  curl -su %[3]s:%[4]s %[5]s/api/certificates

Route a name to a test server:
  %[1]s %[6]s /traefik/backends/app/servers/one/url %[7]s
  %[1]s %[6]s /traefik/frontends/app/backend app
  %[1]s %[6]s /traefik/frontends/app/routes/host/rule Host:%[8]s
  curl -k --resolve %[8]s:%[9]d:%[10]s https://%[8]s:%[9]d/

Kill the replica that works on the order (it shows in /api/cluster) and see another finish it. Ctrl-C ends everything.

`, ctl, list, scene.User, scene.Password, first.API(), set, origin, scene.Zone, first.Ports.HTTPS, first.Address)
}

// tell says when the certificate is there, and which replicas live.
func tell(ctx context.Context, s *scene.Scene) {
	if _, err := s.Served(ctx, scene.Names()...); err == nil {
		fmt.Printf("certificate for %v served by all replicas; orders at the CA: %d, certificates: %d\n",
			scene.Names(), s.Proxy.Orders(scene.Names()...), s.Proxy.Certificates(scene.Names()...))
	}
	alive := len(s.Alive())
	for ctx.Err() == nil {
		time.Sleep(200 * time.Millisecond)
		if n := len(s.Alive()); n != alive {
			alive = n
			fmt.Printf("replicas alive: %d\n", n)
		}
	}
}
