package fire

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/e2e/rig"
	"gatehouse/e2e/rig/smallca"
	"gatehouse/internal/acme"
	"gatehouse/internal/cert"
	"gatehouse/internal/store"
	"gatehouse/internal/store/etcd3store"
)

// crowdOptions of a crowd.
type crowdOptions struct {
	dir, binary string
	replicas    int
	names       int
	extra       string // of the configuration
	rules       smallca.Options
	fails       bool          // every validation fails
	slow        time.Duration // the answer to newOrder, once the order is made
}

// crowd is replicas with very many names: etcd behind a relay, and the small
// CA, which looks at the replicas by HTTP-01, as Pebble bears no such load.
type crowd struct {
	crowdOptions
	etcd   *rig.Etcd
	relay  *relay
	ca     *smallca.CA
	front  *httptest.Server // of the CA
	caWay  *relay           // to it
	origin *httptest.Server
	store  *etcd3store.Store // the judge's own, not through the relay
	issuer string
	toml   string

	mu          sync.Mutex
	procs       []*rig.Process
	http, https []int
}

func (o crowdOptions) name(i int) string { return fmt.Sprintf("n%d.d%d.test", i, i/40) }

// newCrowd starts the servers and no replica.
func newCrowd(ctx context.Context, o crowdOptions) (*crowd, error) {
	c := &crowd{crowdOptions: o, toml: filepath.Join(o.dir, "gatehouse.toml"), procs: make([]*rig.Process, o.replicas)}
	err := c.servers(ctx)
	if err != nil {
		return c, err
	}
	for range o.replicas {
		for _, ports := range []*[]int{&c.http, &c.https} {
			port, err := rig.FreePort()
			if err != nil {
				return c, err
			}
			*ports = append(*ports, port)
		}
	}
	if c.issuer, err = acme.IssuerID(c.ca.Directory()); err != nil {
		return c, err
	}
	return c, os.WriteFile(c.toml, []byte(c.config()), 0o600)
}

func (c *crowd) servers(ctx context.Context) (err error) {
	if err := os.MkdirAll(filepath.Join(c.dir, "etcd"), 0o700); err != nil {
		return err
	}
	if c.etcd, err = rig.NewEtcd(ctx, filepath.Join(c.dir, "etcd")); err != nil {
		return err
	}
	if c.relay, err = newRelay(c.etcd.Endpoint()); err != nil {
		return err
	}
	c.origin = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "answer") }))
	c.front = httptest.NewUnstartedServer(http.HandlerFunc(c.answer))
	c.front.Config.ErrorLog = log.New(io.Discard, "", 0)
	if c.caWay, err = newRelay(c.front.Listener.Addr().String()); err != nil {
		return err
	}
	c.rules.URL, c.rules.Validate = "https://"+c.caWay.addr(), c.look
	c.ca = smallca.New(c.rules)
	c.front.StartTLS()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.front.Certificate().Raw})
	if err := os.WriteFile(filepath.Join(c.dir, "ca.pem"), text, 0o600); err != nil {
		return err
	}
	c.store, err = etcd3store.Open(ctx, etcd3store.Options{Endpoints: []string{c.etcd.Endpoint()}, Prefix: "/gatehouse",
		TTL: 5 * time.Second, Replica: "judge", Logger: slog.New(slog.DiscardHandler)})
	return err
}

// answer is the CA's.
func (c *crowd) answer(w http.ResponseWriter, req *http.Request) {
	if c.slow == 0 || req.URL.Path != "/newOrder" {
		c.ca.ServeHTTP(w, req)
		return
	}
	late := httptest.NewRecorder()
	c.ca.ServeHTTP(late, req)
	time.Sleep(c.slow)
	maps.Copy(w.Header(), late.Header())
	w.WriteHeader(late.Code)
	_, _ = w.Write(late.Body.Bytes())
}

// look is a validation by HTTP-01: at any replica that runs.
func (c *crowd) look(_, name, token, keyAuth string) error {
	if c.fails {
		return errors.New("connection refused")
	}
	req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/.well-known/acme-challenge/%s", c.http[mathrand.IntN(c.replicas)], token), nil)
	if err != nil {
		return err
	}
	req.Host = name
	resp, err := (&http.Client{Timeout: 5 * time.Second}).Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10)); err != nil || string(body) != keyAuth {
		return fmt.Errorf("%s says %s", req.URL, resp.Status)
	}
	return nil
}

func (c *crowd) config() string {
	var b strings.Builder
	fmt.Fprintf(&b, "logLevel = \"INFO\"\ndefaultEntryPoints = [\"https\"]\n[entryPoints.http]\naddress = \"127.0.0.1:0\"\n[entryPoints.https]\naddress = \"127.0.0.1:0\"\n[entryPoints.https.tls]\n")
	fmt.Fprintf(&b, "[ping]\nentryPoint = \"http\"\n[lifeCycle]\ngraceTimeOut = \"2s\"\n[store]\nkind = \"etcd\"\nendpoint = %q\nttl = \"5s\"\n", c.relay.addr())
	fmt.Fprintf(&b, "[acme]\nemail = \"ops@example.test\"\nentryPoint = \"https\"\ncaServer = %q\ncaCertificates = [%q]\n", c.ca.Directory(), filepath.Join(c.dir, "ca.pem"))
	for i := range c.names {
		fmt.Fprintf(&b, "[[acme.domains]]\nmain = %q\n", c.name(i))
	}
	fmt.Fprintf(&b, "[acme.httpChallenge]\nentryPoint = \"http\"\n%s\n", c.extra)
	fmt.Fprintf(&b, "[file]\n[backends.b.servers.s]\nurl = %q\n[frontends.f]\nbackend = \"b\"\n[frontends.f.routes.all]\nrule = \"PathPrefix:/\"\n", c.origin.URL)
	return b.String()
}

// start starts replica i.
func (c *crowd) start(i int) error {
	dir := filepath.Join(c.dir, fmt.Sprintf("own-%d", i))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	p, err := rig.Start(fmt.Sprintf("replica-%d", i+1), c.dir, nil, c.binary, "-c", c.toml, fmt.Sprintf("--cluster.node=replica-%d", i+1),
		"--store.directory="+dir, fmt.Sprintf("--entryPoints.http.address=127.0.0.1:%d", c.http[i]),
		fmt.Sprintf("--entryPoints.https.address=127.0.0.1:%d", c.https[i]))
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.procs[i] = p
	return nil
}

func (c *crowd) startAll() error {
	for i := range c.replicas {
		if err := c.start(i); err != nil {
			return err
		}
	}
	return nil
}

// ready waits until replica i is.
func (c *crowd) ready(ctx context.Context, i int) error {
	return c.procs[i].WaitFor(ctx, func(ctx context.Context) error {
		return rig.Answers(ctx, fmt.Sprintf("http://127.0.0.1:%d/ready", c.http[i]))
	})
}

// seed puts a certificate of every name into the store, half a month old.
func (c *crowd) seed(ctx context.Context) error {
	next := make(chan int)
	var running sync.WaitGroup
	var failed atomic.Pointer[error]
	for range 8 {
		running.Go(func() {
			for i := range next {
				if err := c.seedOne(ctx, i); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	for i := range c.names {
		next <- i
	}
	close(next)
	running.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (c *crowd) seedOne(ctx context.Context, i int) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	chain := c.ca.Grant(time.Now().Add(-15*24*time.Hour), key.Public(), c.name(i))
	_, err = cert.Import(ctx, c.store, c.issuer, cert.Bundle{Chain: chain, Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})})
	return err
}

// renewNow asks for a new certificate of the first n names.
func (c *crowd) renewNow(ctx context.Context, n int) error {
	for i := range n {
		if err := c.renewOne(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

func (c *crowd) renewOne(ctx context.Context, i int) error {
	_, err := cert.RequestNow(ctx, c.store, c.issuer, cert.ID([]string{c.name(i)}))
	return err
}

// issued is how many certificates the CA has issued, those granted included.
func (c *crowd) issued() (n int) {
	c.ca.Seen(func(s *smallca.Counts) { n = len(s.Issued) })
	return n
}

// left is what is under a prefix of the store.
func (c *crowd) left(ctx context.Context, prefix string) int {
	entries, err := store.List(ctx, c.store, prefix)
	if err != nil {
		return -1
	}
	return len(entries)
}

// memory is what replica i has in memory, and had at most, in MiB.
func (c *crowd) memory(i int) (now, most float64) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.procs[i].Pid()))
	for line := range strings.Lines(string(text)) {
		var kb float64
		if _, err := fmt.Sscanf(line, "VmRSS: %f", &kb); err == nil {
			now = kb / 1024
		}
		if _, err := fmt.Sscanf(line, "VmHWM: %f", &kb); err == nil {
			most = kb / 1024
		}
	}
	return now, most
}

// cpu is how much of the processors replica i has used.
func (c *crowd) cpu(i int) time.Duration {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.procs[i].Pid()))
	_, rest, _ := strings.Cut(string(text), ") ")
	var user, system int
	if fields := strings.Fields(rest); len(fields) > 12 { // fields 14 and 15 of proc(5), in hundredths
		user, _ = strconv.Atoi(fields[11])
		system, _ = strconv.Atoi(fields[12])
	}
	return time.Duration(user+system) * time.Second / 100
}

// told is how often the replicas have logged something.
func (c *crowd) told(msg string) (n int) {
	logs, _ := filepath.Glob(filepath.Join(c.dir, "replica-*.log"))
	for _, file := range logs {
		text, _ := os.ReadFile(file)
		n += strings.Count(string(text), msg)
	}
	return n
}

func (c *crowd) stop() {
	for _, p := range c.procs {
		if p != nil {
			p.Kill()
		}
	}
	if c.store != nil {
		_ = c.store.Close()
	}
	for _, r := range []*relay{c.relay, c.caWay} {
		if r != nil {
			r.close()
		}
	}
	if c.front != nil {
		c.front.CloseClientConnections()
		c.front.Close()
	}
	if c.origin != nil {
		c.origin.CloseClientConnections()
		c.origin.Close()
	}
	if c.etcd != nil {
		c.etcd.Kill()
	}
}

func (c *crowd) address(i int) string { return net.JoinHostPort("127.0.0.1", fmt.Sprint(c.https[i])) }
