// Package route53 is a double of the Amazon Route 53 API for tests and the
// demo: an HTTP server that speaks the five calls a DNS-01 client may make, in
// Route 53's XML, under the IAM policy of the seed post, and that writes what
// is changed into a real DNS server by RFC 2136. What it cannot prove: that
// Amazon behaves as its documentation says.
package route53

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Zone is a hosted zone.
type Zone struct {
	ID      string // "Z0123"
	Name    string // "example.com"
	Private bool
}

// DNS is the server that shows the zones' records, and the key it takes
// updates with.
type DNS struct {
	Addr      string // host:port
	KeyName   string
	Secret    string // base64
	Algorithm string // default hmac-sha256
}

// Options say what the double is to be.
type Options struct {
	Addr      string            // default 127.0.0.1:0
	Zones     []Zone            // private twins allowed
	Keys      map[string]string // access key ID to secret; nil: AccessKey and SecretKey
	Writable  []string          // zone IDs the policy lets change; nil: the first zone
	MayList   bool              // the policy allows ListResourceRecordSets too
	SyncDelay time.Duration     // PENDING for so long; records are in the DNS when it ends
	RateLimit int               // requests a second above which it says Throttling; 0: none
	DNS       *DNS              // nil: changes are only kept
}

// The access key of a double that is given none.
const (
	AccessKey = "AKIAIOSFODNN7EXAMPLE"
	SecretKey = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

// Call is one request that was answered.
type Call struct {
	At      time.Time
	Action  string // "ChangeResourceRecordSets"
	Zone    string // zone ID, of calls that have one
	Name    string // dnsname of ListHostedZonesByName, change ID of GetChange
	Changes []Change
	Status  int    // HTTP
	Code    string // error code; empty: success
}

// Change is one element of a change batch.
type Change struct {
	Action string // CREATE, UPSERT, DELETE
	Name   string // without the trailing dot
	Type   string
	TTL    int64
	Values []string // as sent, TXT in quotes
}

// Double is a running double. Safe for concurrent use.
type Double struct {
	opts   Options
	server *http.Server
	addr   string
	stop   context.CancelFunc
	ctx    context.Context
	work   sync.WaitGroup

	mu      sync.Mutex
	calls   []Call
	sets    map[string]map[setKey]recordSet // by zone ID
	changes map[string]string               // change ID to status
	faults  []fault
	recent  []time.Time
	syncErr error
	pushing sync.Mutex // updates reach the DNS in order
}

type setKey struct{ name, typ string }

type recordSet struct {
	ttl    int64
	values []string
}

type fault struct {
	action, code string
	status       int
	drop         bool
}

// New starts a double.
func New(opts Options) (*Double, error) {
	if opts.Addr == "" {
		opts.Addr = "127.0.0.1:0"
	}
	if opts.Keys == nil {
		opts.Keys = map[string]string{AccessKey: SecretKey}
	}
	if opts.Writable == nil && len(opts.Zones) > 0 {
		opts.Writable = []string{opts.Zones[0].ID}
	}
	ln, err := net.Listen("tcp", opts.Addr)
	if err != nil {
		return nil, fmt.Errorf("start the Route 53 double: %w", err)
	}
	d := &Double{opts: opts, addr: ln.Addr().String(), sets: map[string]map[setKey]recordSet{}, changes: map[string]string{}}
	for _, z := range opts.Zones {
		d.sets[z.ID] = map[setKey]recordSet{}
	}
	d.ctx, d.stop = context.WithCancel(context.Background())
	d.server = &http.Server{Handler: d, ReadHeaderTimeout: 10 * time.Second}
	d.work.Go(func() { _ = d.server.Serve(ln) })
	return d, nil
}

// URL is what AWS_ENDPOINT_URL_ROUTE_53 is set to.
func (d *Double) URL() string { return "http://" + d.addr }

// Env is the environment a client of the double needs, as the post's
// deployment has it plus the address.
func (d *Double) Env() map[string]string {
	env := map[string]string{
		"AWS_REGION": "ap-southeast-2", "AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL_ROUTE_53": d.URL(),
	}
	for id, secret := range d.opts.Keys {
		env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"] = id, secret
	}
	return env
}

// Close stops it and waits for its goroutines.
func (d *Double) Close() error {
	d.stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = d.server.Shutdown(ctx) // lets requests end; connections never used it would wait for
	err := d.server.Close()
	d.work.Wait()
	return err
}

// Calls lists the requests answered so far, in order.
func (d *Double) Calls() []Call {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.calls)
}

// Values lists the unquoted TXT values at a name, sorted, as the API has them.
func (d *Double) Values(zoneID, name string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var values []string
	for _, v := range d.sets[zoneID][setKey{strings.ToLower(name), "TXT"}].values {
		values = append(values, strings.Trim(v, `"`))
	}
	slices.Sort(values)
	return values
}

// Err is the first error in writing to the DNS server, if there was one.
func (d *Double) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.syncErr
}

// Fail makes the next n requests of an action ("" for any) fail with a status
// and an error code, without effect.
func (d *Double) Fail(action string, n, status int, code string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for range n {
		d.faults = append(d.faults, fault{action: action, status: status, code: code})
	}
}

// LoseReply carries out the next n requests of an action and cuts the
// connection instead of answering.
func (d *Double) LoseReply(action string, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for range n {
		d.faults = append(d.faults, fault{action: action, drop: true})
	}
}

// takeFault removes and gives the first fault planned for the action.
func (d *Double) takeFault(action string) (fault, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, f := range d.faults {
		if f.action == "" || f.action == action {
			d.faults = slices.Delete(d.faults, i, i+1)
			return f, true
		}
	}
	return fault{}, false
}

// throttled counts the request against the rate limit.
func (d *Double) throttled() bool {
	if d.opts.RateLimit == 0 {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	d.recent = slices.DeleteFunc(d.recent, func(t time.Time) bool { return now.Sub(t) >= time.Second })
	if len(d.recent) >= d.opts.RateLimit {
		return true
	}
	d.recent = append(d.recent, now)
	return false
}

func (d *Double) zone(id string) (Zone, bool) {
	for _, z := range d.opts.Zones {
		if z.ID == id {
			return z, true
		}
	}
	return Zone{}, false
}
