// Package fire kills and stops replicas, as real processes of a build with kill
// points, at every point of an order, on real stores, with a real DNS server
// and Pebble behind the counting proxy. The short form runs with the tests,
// the long one by `make fire`.
package fire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"gatehouse/e2e/rig"
	"gatehouse/e2e/rig/faultca"
	"gatehouse/internal/acme"
	"gatehouse/internal/cert"
	"gatehouse/internal/store"
	"gatehouse/internal/store/etcd2store"
	"gatehouse/internal/store/etcd3store"
	"gatehouse/internal/store/filestore"
)

const zone = "fire.test"

// options of a world.
type options struct {
	dir, binary string
	kind        string // of store: etcd, etcd2, file
	replicas    int
	names       int // certificates
	ttl         time.Duration
}

// world is everything that runs.
type world struct {
	options
	etcd   *rig.Etcd
	dns    *rig.Knot
	ca     *rig.Pebble
	proxy  *faultca.Proxy
	store  store.Store
	close  io.Closer
	issuer string
	order  string // file of the kill points
	toml   string

	procs  []*rig.Process
	ports  []int
	mu     sync.Mutex
	stored map[string]map[string]bool // ID: serials that were in the store
}

func (o options) ids() (ids []string) {
	for i := range o.names {
		ids = append(ids, cert.ID([]string{o.name(i)}))
	}
	return ids
}

func (o options) name(i int) string { return fmt.Sprintf("n%d.%s", i, zone) }

// newWorld starts the servers, then the replicas.
func newWorld(ctx context.Context, o options) (*world, error) {
	w := &world{options: o, order: filepath.Join(o.dir, "order"), toml: filepath.Join(o.dir, "gatehouse.toml"), stored: map[string]map[string]bool{}}
	if err := w.servers(ctx); err != nil {
		return w, err
	}
	if err := os.WriteFile(w.toml, []byte(w.config()), 0o600); err != nil {
		return w, err
	}
	for i := range o.replicas {
		port, err := rig.FreePort()
		if err != nil {
			return w, err
		}
		w.ports, w.procs = append(w.ports, port), append(w.procs, nil)
		if err := w.start(i); err != nil {
			return w, err
		}
	}
	return w, nil
}

func (w *world) servers(ctx context.Context) (err error) {
	for _, name := range []string{"etcd", "knot", "pebble"} {
		if err := os.MkdirAll(filepath.Join(w.dir, name), 0o700); err != nil {
			return err
		}
	}
	if w.kind != "file" {
		if w.etcd, err = rig.NewEtcd(ctx, filepath.Join(w.dir, "etcd")); err != nil {
			return err
		}
	}
	if w.dns, err = rig.NewKnot(ctx, filepath.Join(w.dir, "knot"), zone); err != nil {
		return err
	}
	if w.ca, err = rig.NewPebble(ctx, filepath.Join(w.dir, "pebble"), rig.PebbleOptions{DNSServer: w.dns.Addr()}); err != nil {
		return err
	}
	if w.proxy, err = faultca.New(w.ca.Directory(), w.ca.Roots()); err != nil {
		return err
	}
	w.proxy.Impatient = true
	if err := os.WriteFile(filepath.Join(w.dir, "ca.pem"), w.proxy.RootsPEM(), 0o600); err != nil {
		return err
	}
	if w.issuer, err = acme.IssuerID(w.proxy.Directory()); err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	switch w.kind {
	case "etcd":
		s, e := etcd3store.Open(ctx, etcd3store.Options{Endpoints: []string{w.etcd.Endpoint()}, Prefix: "/gatehouse", TTL: w.ttl, Replica: "judge", Logger: log})
		w.store, w.close, err = s, s, e
	case "etcd2":
		s, e := etcd2store.Open(ctx, etcd2store.Options{Endpoints: []string{w.etcd.Endpoint()}, Prefix: "/gatehouse", TTL: w.ttl, Replica: "judge", Logger: log})
		w.store, w.close, err = s, s, e
	default:
		s, e := filestore.Open(filestore.Options{Dir: filepath.Join(w.dir, "store"), TTL: w.ttl, Replica: "judge", Logger: log})
		w.store, w.close, err = s, s, e
	}
	return err
}

// config is the file every replica reads.
func (w *world) config() string {
	var b strings.Builder
	fmt.Fprintf(&b, "logLevel = \"INFO\"\n[entryPoints.https]\naddress = \"127.0.0.1:0\"\n[entryPoints.https.tls]\n")
	fmt.Fprintf(&b, "[store]\nkind = %q\nttl = %q\ncopy = \"none\"\ndirectory = %q\n", w.kind, w.ttl.String(), filepath.Join(w.dir, "store"))
	if w.etcd != nil {
		fmt.Fprintf(&b, "endpoint = %q\n", w.etcd.Endpoint())
	}
	fmt.Fprintf(&b, "[acme]\nemail = \"ops@%s\"\nentryPoint = \"https\"\ncaServer = %q\ncaCertificates = [%q]\n", zone, w.proxy.Directory(), filepath.Join(w.dir, "ca.pem"))
	for i := range w.names {
		fmt.Fprintf(&b, "[[acme.domains]]\nmain = %q\n", w.name(i))
	}
	fmt.Fprintf(&b, "[acme.dnsChallenge]\nprovider = \"dnsupdate\"\nresolvers = [%q]\n", w.dns.Addr())
	return b.String()
}

// start starts replica i, again if it was there.
func (w *world) start(i int) (err error) {
	env := []string{"KILLPOINT_FILE=" + w.order, "DNSUPDATE_SERVER=" + w.dns.Addr(),
		"DNSUPDATE_TSIG_KEY=" + w.dns.KeyName, "DNSUPDATE_TSIG_SECRET=" + w.dns.Secret}
	w.procs[i], err = rig.Start(fmt.Sprintf("replica-%d", i+1), w.dir, env, w.binary, "-c", w.toml,
		fmt.Sprintf("--cluster.node=replica-%d", i+1), fmt.Sprintf("--entryPoints.https.address=127.0.0.1:%d", w.ports[i]))
	return err
}

// watch remembers every certificate that is ever in the store.
func (w *world) watch(ctx context.Context) {
	for entries, err := range w.store.Watch(ctx, "certificates") {
		if err != nil {
			continue
		}
		w.mu.Lock()
		for _, e := range entries {
			var rec struct{ Serial string }
			if json.Unmarshal(e.Value, &rec) != nil {
				continue
			}
			id := filepath.Base(e.Key)
			if w.stored[id] == nil {
				w.stored[id] = map[string]bool{}
			}
			w.stored[id][rec.Serial] = true
		}
		w.mu.Unlock()
	}
}

// generation is how many certificates of an ID the store has held.
func (w *world) generation(id string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.stored[id])
}

// obey gives the replicas an order and waits until one has taken it; false: none
// came by that point in time.
func (w *world) obey(ctx context.Context, order string, patience time.Duration) bool {
	return w.tell(order) && w.taken(ctx, patience)
}

// tell gives the order.
func (w *world) tell(order string) bool {
	_ = os.Remove(w.order + ".taken")
	return os.WriteFile(w.order+".new", []byte(order), 0o600) == nil && os.Rename(w.order+".new", w.order) == nil
}

// taken waits until somebody takes it.
func (w *world) taken(ctx context.Context, patience time.Duration) bool {
	for end := time.Now().Add(patience); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(2 * time.Millisecond) {
		if _, err := os.Stat(w.order + ".taken"); err == nil {
			return true
		}
	}
	// Taken back, unless it is being taken right now.
	return os.Remove(w.order) != nil
}

// dead waits for a replica that ends, and says which.
func (w *world) dead(patience time.Duration) (int, bool) {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		for i, r := range w.procs {
			select {
			case <-r.Done():
				return i, true
			default:
			}
		}
	}
	return 0, false
}

// left is what an order has left behind.
func (w *world) left(ctx context.Context) (left []string, err error) {
	for _, prefix := range []string{"orders", "challenges"} {
		entries, err := store.List(ctx, w.store, prefix)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			left = append(left, e.Key)
		}
	}
	for i := range w.names {
		values, err := w.dns.TXT(ctx, "_acme-challenge."+w.name(i))
		if err != nil {
			return nil, err
		}
		for _, v := range values {
			left = append(left, w.name(i)+" TXT "+v)
		}
	}
	return left, nil
}

func (w *world) stop() {
	for _, r := range w.procs {
		if r != nil {
			r.Kill()
		}
	}
	if w.close != nil {
		_ = w.close.Close()
	}
	if w.proxy != nil {
		w.proxy.Close()
	}
	if w.ca != nil {
		w.ca.Kill()
	}
	if w.dns != nil {
		w.dns.Kill()
	}
	if w.etcd != nil {
		w.etcd.Kill()
	}
}

// build builds gatehouse with its kill points.
func build(dir string) (string, error) {
	path := filepath.Join(dir, "gatehouse")
	cmd := exec.Command("go", "build", "-tags", "killpoints", "-o", path, "./cmd/gatehouse")
	cmd.Dir, cmd.Env = rig.Root(), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.Join(err, errors.New(string(out)))
	}
	return path, nil
}
