// Package scene puts the published story on one machine: a real etcd, a real
// ACME test CA behind a counting proxy, a real DNS server that the Route 53
// double writes into, and replicas of the gatehouse binary as processes, each
// on a loopback address of its own. The end-to-end tests and `make cluster`
// run this same code.
package scene

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"gatehouse/e2e/rig"
	"gatehouse/e2e/rig/faultca"
	"gatehouse/e2e/rig/route53"
)

// Zone is the post's zone; its names are below.
const Zone = "office.mydomain.com"

// Names are the post's [[acme.domains]]: one certificate.
func Names() []string {
	return []string{Zone, "nodejs-app." + Zone, "encompass." + Zone}
}

// Options of a scene.
type Options struct {
	Dir       string // everything is written below it
	Binary    string // gatehouse
	V3        bool   // speak etcd's v3 API instead of v2
	Challenge string // "dns-01" (default) or "http-01"
	Replicas  int    // 0: three
	// InSync is how long the Route 53 double lets a change be PENDING.
	InSync time.Duration
	// Extra are more flags for storeconfig: settings all replicas read.
	Extra []string
	// Args are more flags for each replica: how it reaches the store.
	Args []string
}

// Scene is the running story.
type Scene struct {
	Etcd     *rig.Etcd
	DNS      *rig.Knot
	CA       *rig.Pebble
	Proxy    *faultca.Proxy
	Route53  *route53.Double
	Replicas []*Replica

	o     Options
	ports Ports
	toml  string
	net   int
	claim net.Listener // holds net
}

// claimNet finds a loopback network that no other scene has, of this process
// or another: the replicas get 127.0.N.11 and up. It is ours while the claim,
// a socket at 127.0.N.1, is open, so a killed test leaves none behind.
func claimNet() (int, net.Listener, error) {
	var err error
	for n := 1; n < 255; n++ {
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.%d.1:40009", n)); err == nil {
			return n, l, nil
		}
	}
	return 0, nil, fmt.Errorf("claim a loopback network for the scene: none of 254 is free, the last said: %w", err)
}

// Ports are those of the entry points, the same on every replica's address.
type Ports struct{ HTTP, HTTPS, API int }

// Replica is one gatehouse process.
type Replica struct {
	*rig.Process
	Name    string
	Address string // its loopback address
	Ports   Ports
}

// HTTPS is where it serves TLS.
func (r *Replica) HTTPS() string { return fmt.Sprintf("%s:%d", r.Address, r.Ports.HTTPS) }

// HTTP is where it serves without.
func (r *Replica) HTTP() string { return fmt.Sprintf("%s:%d", r.Address, r.Ports.HTTP) }

// API is the URL of its status API.
func (r *Replica) API() string { return fmt.Sprintf("http://%s:%d", r.Address, r.Ports.API) }

// New starts the servers and fills etcd by `gatehouse storeconfig` from the
// post's own file; replicas are started by Start.
func New(ctx context.Context, o Options) (*Scene, error) {
	if o.Replicas == 0 {
		o.Replicas = 3
	}
	if o.Challenge == "" {
		o.Challenge = "dns-01"
	}
	s := &Scene{o: o}
	if err := s.startServers(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Scene) startServers(ctx context.Context) (err error) {
	dir := func(name string) string {
		d := filepath.Join(s.o.Dir, name)
		err = errors.Join(err, os.MkdirAll(d, 0o700))
		return d
	}
	if s.net, s.claim, err = claimNet(); err != nil {
		return err
	}
	if s.ports, err = s.choosePorts(); err != nil {
		return err
	}
	if s.Etcd, err = rig.NewEtcd(ctx, dir("etcd")); err != nil {
		return err
	}
	if s.DNS, err = rig.NewKnot(ctx, dir("knot"), Zone); err != nil {
		return err
	}
	// The names lead to all replicas, as behind any load balancer.
	if err = s.DNS.Set(ctx, Zone, "*."+Zone, "A", s.addresses()...); err != nil {
		return err
	}
	if err = s.DNS.Set(ctx, Zone, Zone, "A", s.addresses()...); err != nil {
		return err
	}
	s.CA, err = rig.NewPebble(ctx, dir("pebble"), rig.PebbleOptions{
		DNSServer: s.DNS.Addr(), HTTPPort: s.ports.HTTP, TLSPort: s.ports.HTTPS,
	})
	if err != nil {
		return err
	}
	if s.Proxy, err = faultca.New(s.CA.Directory(), s.CA.Roots()); err != nil {
		return err
	}
	if err = os.WriteFile(s.caFile(), s.Proxy.RootsPEM(), 0o600); err != nil {
		return err
	}
	// The names lead to all replicas from the start, ready or not, which no load
	// balancer would do. A CA that takes a moment lets them come up first.
	s.Proxy.Inject(faultca.Fault{Step: faultca.NewOrder, Delay: 2 * time.Second})
	s.Route53, err = route53.New(route53.Options{
		Zones: []route53.Zone{{Name: Zone, ID: "Z0OFFICE"}}, SyncDelay: s.o.InSync,
		DNS: &route53.DNS{Addr: s.DNS.Addr(), KeyName: s.DNS.KeyName, Secret: s.DNS.Secret},
	})
	if err != nil {
		return err
	}
	s.toml = filepath.Join(s.o.Dir, "traefik.toml")
	if err = s.writeTOML(); err != nil {
		return err
	}
	return s.storeConfig(ctx)
}

// choosePorts takes the post's own, 80, 443 and 8080, where this user may bind
// them, else high ones.
func (s *Scene) choosePorts() (Ports, error) {
	if l, err := net.Listen("tcp", s.addresses()[0]+":80"); err == nil {
		_ = l.Close()
		return Ports{80, 443, 8080}, nil
	}
	var p Ports
	for _, port := range []*int{&p.HTTP, &p.HTTPS, &p.API} {
		free, err := rig.FreePort()
		if err != nil {
			return p, err
		}
		*port = free
	}
	return p, nil
}

func (s *Scene) addresses() []string {
	var list []string
	for i := range s.o.Replicas {
		list = append(list, fmt.Sprintf("127.0.%d.%d", s.net, 11+i))
	}
	return list
}

// writeTOML writes the post's file as published.
func (s *Scene) writeTOML() error {
	text, err := os.ReadFile(filepath.Join(rig.Root(), "examples/post/traefik.toml"))
	if err != nil {
		return err
	}
	return os.WriteFile(s.toml, text, 0o600)
}

// storeConfig fills etcd. What differs from the post is given as flags, as one
// would: where the store and the CA are, and ports this user may bind.
func (s *Scene) storeConfig(ctx context.Context) error {
	args := []string{"storeconfig", "-c", s.toml,
		"--etcd.endPoint=" + s.Etcd.Endpoint(),
		"--acme.caServer=" + s.Proxy.Directory(),
		"--acme.caCertificates=" + s.caFile(),
		fmt.Sprintf("--entryPoints.http.address=:%d", s.ports.HTTP),
		fmt.Sprintf("--entryPoints.https.address=:%d", s.ports.HTTPS),
		fmt.Sprintf("--web.address=:%d", s.ports.API),
		"--web.auth.basic.users=" + User + ":$apr1$gatehous$9XQZmr4Eeme1B8M1YpGVP1",
	}
	if s.o.V3 {
		args = append(args, "--etcd.useAPIV3")
	}
	if s.o.Challenge == "http-01" {
		args = append(args, "--acme.dnsProvider=", "--acme.httpChallenge.entryPoint=http")
	} else {
		args = append(args, "--acme.dnsChallenge.resolvers="+s.DNS.Addr())
	}
	out, err := s.command(ctx, append(args, s.o.Extra...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("gatehouse storeconfig: %w\n%s", err, out)
	}
	return nil
}

func (s *Scene) caFile() string { return filepath.Join(s.o.Dir, "acme-ca.pem") }

// V3 tells whether the replicas speak etcd's v3 API.
func (s *Scene) V3() bool { return s.o.V3 }

// Run runs the binary with one-shot arguments and gives its output.
func (s *Scene) Run(ctx context.Context, args ...string) (string, error) {
	out, err := s.command(ctx, args...).CombinedOutput()
	return string(out), err
}

func (s *Scene) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.o.Binary, args...)
	cmd.Env = append(os.Environ(), s.env()...)
	cmd.Dir = s.o.Dir
	return cmd
}

// env is the post's environment, with the address of the double.
func (s *Scene) env() []string {
	var list []string
	for name, value := range s.Route53.Env() {
		list = append(list, name+"="+value)
	}
	return list
}

// Start starts replica i (from 0), with the post's own arguments.
func (s *Scene) Start(ctx context.Context, i int) error {
	r := &Replica{Name: fmt.Sprintf("replica-%d", i+1), Address: s.addresses()[i], Ports: s.ports}
	args := []string{"-c", s.toml, "--web", "--kubernetes", "--etcd",
		// The quotes belong to the value: so the post's manifest hands it over.
		fmt.Sprintf("--etcd.endPoint=%q", s.Etcd.Endpoint()),
		"--cluster.node=" + r.Name, "--cluster.bind=" + r.Address,
	}
	if s.o.V3 {
		args = append(args, "--etcd.useAPIV3")
	}
	args = append(args, s.o.Args...)
	var err error
	if r.Process, err = rig.Start(r.Name, s.o.Dir, s.env(), s.o.Binary, args...); err != nil {
		return err
	}
	for len(s.Replicas) <= i {
		s.Replicas = append(s.Replicas, nil)
	}
	s.Replicas[i] = r
	return nil
}

// StartAll starts every replica and waits until each answers /ping.
func (s *Scene) StartAll(ctx context.Context) error {
	for i := range s.o.Replicas {
		if err := s.Start(ctx, i); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, r := range s.Replicas {
		err := r.WaitFor(ctx, func(ctx context.Context) error { _, err := get(ctx, r.API()+"/ping", nil); return err })
		if err != nil {
			return err
		}
	}
	return nil
}

// Alive are the replicas whose process runs.
func (s *Scene) Alive() []*Replica {
	var list []*Replica
	for _, r := range s.Replicas {
		if r == nil {
			continue
		}
		select {
		case <-r.Done():
		default:
			list = append(list, r)
		}
	}
	return list
}

// User and Password of the dashboard. The published hash has no published
// password, so this one's is given as a flag.
const (
	User     = "myuser"
	Password = "gatehouse"
)

// Get asks a replica's API, with the dashboard's password.
func (r *Replica) Get(ctx context.Context, path string, into any) error {
	text, err := get(ctx, r.API()+path, func(req *http.Request) { req.SetBasicAuth(User, Password) })
	if err != nil || into == nil {
		return err
	}
	return json.Unmarshal(text, into)
}

func get(ctx context.Context, url string, prepare func(*http.Request)) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	if prepare != nil {
		prepare(req)
	}
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr, Timeout: 5 * time.Second}).Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s says %s: %s", url, resp.Status, strings.TrimSpace(string(text)))
	}
	return text, err
}

// Holder finds the replica that works on an order now; nil: nobody.
func (s *Scene) Holder(ctx context.Context) *Replica {
	for _, r := range s.Alive() {
		if holder := s.HolderSeenBy(ctx, r); holder != nil {
			return holder
		}
	}
	return nil
}

// HolderSeenBy is the holder as one replica knows it.
func (s *Scene) HolderSeenBy(ctx context.Context, r *Replica) *Replica {
	var cluster struct {
		Replicas []struct {
			Name  string
			Holds []string
		}
	}
	if r.Get(ctx, "/api/cluster", &cluster) != nil {
		return nil
	}
	for _, m := range cluster.Replicas {
		for _, lease := range m.Holds {
			if strings.HasPrefix(lease, "orders/") {
				return s.named(m.Name)
			}
		}
	}
	return nil
}

func (s *Scene) named(name string) *Replica {
	for _, r := range s.Alive() {
		if r.Name == name {
			return r
		}
	}
	return nil
}

// Close ends everything, replicas first.
func (s *Scene) Close() {
	if s.claim != nil {
		defer s.claim.Close()
	}
	for _, r := range s.Alive() {
		_ = r.Signal(syscall.SIGTERM)
	}
	for _, r := range s.Alive() {
		_ = r.Stop(15 * time.Second)
	}
	if s.Route53 != nil {
		_ = s.Route53.Close()
	}
	if s.Proxy != nil {
		s.Proxy.Close()
	}
	for _, p := range []*rig.Process{processOf(s.CA != nil, func() *rig.Process { return s.CA.Process }),
		processOf(s.DNS != nil, func() *rig.Process { return s.DNS.Process }),
		processOf(s.Etcd != nil, func() *rig.Process { return s.Etcd.Process })} {
		if p != nil {
			p.Kill()
		}
	}
}

func processOf(there bool, p func() *rig.Process) *rig.Process {
	if !there {
		return nil
	}
	return p()
}
