// Package smallca is a small ACME certificate authority in this process, for
// what Pebble cannot do: thousands of names at once, hours in no time (it knows
// no clock but time.Now, so it works in testing/synctest), and the rules of
// Let's Encrypt's Boulder that a client must live with: the same order given
// again, authorizations used again, windows of renewal (RFC 9773) with one
// replacement for each certificate, rate limits as token buckets. What it is
// asked comes as real HTTP with real JWS.
//
// It also is the judge: it counts what was asked of it, and issued.
package smallca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options are the rules of a CA. The zero ones are kind.
type Options struct {
	URL      string        // of the CA, "https://ca.test"
	Lifetime time.Duration // of certificates; 0: 90 days
	// Validate looks whether name proves what keyAuth asks for; nil: it always
	// does. It is called in a goroutine of its own.
	Validate     func(kind, name, token, keyAuth string) error
	Validation   time.Duration // how long that takes
	Issuance     time.Duration // how long an order is processing
	AuthzReuse   time.Duration // how long a valid authorization is used again
	OrderLife    time.Duration // 0: a week
	ForgetOrders bool          // make a new order each time, as Pebble does; Boulder gives the open one again
	ListOrders   bool          // tell an account which orders it has (RFC 8555, 7.1.2.1), three a page; Boulder does not
	Limits       bool          // those of Let's Encrypt
	NewOrders    int           // of the limits: orders an account may begin in 3 h; 0: 300, as Let's Encrypt
	Retry        time.Duration // Retry-After of renewal information; 0: 6 h
}

// CA is a running one. Its methods may be called from any goroutine.
type CA struct {
	o    Options
	root *x509.Certificate
	key  *ecdsa.PrivateKey

	mu       sync.Mutex
	paused   string                // link to a page that ends it; "": nothing is paused
	down     func(step string) int // status instead of an answer; 0: none
	nonces   map[string]bool
	accounts map[string]*account // by URL
	orders   map[string]*order   // by URL
	authzs   map[string]*authz
	issued   map[string]*Issued // by ARI identifier
	buckets  map[string]time.Time
	open     map[string]*order // last order by account and names
	proofs   map[string]*authz // last authorization by account and name
	known    map[string]bool   // sets of names that have had a certificate
	next     int

	Log Counts
}

// Counts are what the CA saw. They are guarded by the CA: read them by Seen.
type Counts struct {
	Requests   []Request
	NewOrders  map[string]int // accepted newOrders by name set
	Orders     map[string]int // of them, those that made an order
	Finalized  map[string]int // accepted finalizes by name set: a certificate each
	Limited    int            // answers with 429
	ARI        map[string]int // polls by identifier
	Conflicts  int            // 409
	Issued     []*Issued
	BadNonces  int
	DoubleSent int // a challenge told, or an order finalized, twice
}

// Request is one that reached the CA.
type Request struct {
	At   time.Time
	Step string // as in the directory, or "order", "authorization", ...
}

// Issued is one certificate.
type Issued struct {
	ID       string // of RFC 9773, section 4.1
	Names    string
	Serial   string
	Leaf     *x509.Certificate
	At       time.Time // when it was ordered
	Signed   time.Time // when the order was finalized
	Replaces string    // identifier; "": none
	// InWindow: it was ordered inside the window of what it replaces.
	InWindow bool

	start, end time.Time // window
	next       *order    // that replaces it
}

type account struct {
	url, thumb string
	key        *ecdsa.PublicKey
}

type order struct {
	url, account, names string
	identifiers         []identifier
	authzs              []string
	status              string
	expires, made       time.Time
	ready               time.Time // when processing ends
	replaces            string
	inWindow            bool
	chain               []byte
	err                 *problem
}

type identifier struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

type authz struct {
	url, account string
	id           identifier
	wildcard     bool
	status       string
	token        string
	expires      time.Time
	told         string // challenge type
	err          *problem
}

type problem struct {
	Type   string `json:"type"`
	Detail string `json:"detail"`
	Status int    `json:"status,omitempty"`

	retry time.Duration
}

// New makes a CA.
func New(o Options) *CA {
	if o.Lifetime == 0 {
		o.Lifetime = 90 * 24 * time.Hour
	}
	if o.OrderLife == 0 {
		o.OrderLife = 7 * 24 * time.Hour
	}
	if o.NewOrders == 0 {
		o.NewOrders = 300
	}
	if o.Retry == 0 {
		o.Retry = 6 * time.Hour
	}
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "small CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(50, 0, 0), SubjectKeyId: []byte{1, 2, 3, 4},
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	ca := &CA{o: o, key: key, root: must(x509.ParseCertificate(der)), nonces: map[string]bool{}, buckets: map[string]time.Time{}, issued: map[string]*Issued{}, known: map[string]bool{}}
	ca.forget()
	ca.Log = Counts{NewOrders: map[string]int{}, Orders: map[string]int{}, Finalized: map[string]int{}, ARI: map[string]int{}}
	return ca
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Directory is the URL of its directory.
func (ca *CA) Directory() string { return ca.o.URL + "/directory" }

// Roots verify what it issues.
func (ca *CA) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.root)
	return pool
}

// Say makes it answer with a page of this status in place of the right answer,
// if status says so for a step; nil: it works again.
func (ca *CA) Say(status func(step string) int) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	ca.down = status
}

// Pause refuses every order as Boulder does after too many failures in a row,
// with a link for a person; "" ends it.
func (ca *CA) Pause(link string) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	ca.paused = link
}

// Forget loses all accounts and orders.
func (ca *CA) Forget() {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	ca.forget()
}

func (ca *CA) forget() {
	ca.accounts, ca.orders, ca.authzs = map[string]*account{}, map[string]*order{}, map[string]*authz{}
	ca.open, ca.proofs = map[string]*order{}, map[string]*authz{}
}

// Revoke puts the windows of all certificates into the past.
func (ca *CA) Revoke(names ...string) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	for _, i := range ca.issued {
		if i.Names == nameSet(names) {
			i.start, i.end = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
		}
	}
}

// Seen gives what look makes of the counts.
func (ca *CA) Seen(look func(*Counts)) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	look(&ca.Log)
}

// ServeHTTP answers one request.
func (ca *CA) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(req.Body, 1<<20))
	ca.mu.Lock()
	defer ca.mu.Unlock()
	step, rest, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "/")
	ca.Log.Requests = append(ca.Log.Requests, Request{time.Now(), step})
	w.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
	if ca.down != nil {
		if status := ca.down(step); status != 0 {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(status)
			return
		}
	}
	switch step {
	case "directory":
		ca.directory(w)
		return
	case "newNonce":
		w.Header().Set("Replay-Nonce", ca.nonce())
		return
	case "renewalInfo":
		ca.renewalInfo(w, rest)
		return
	}
	w.Header().Set("Replay-Nonce", ca.nonce())
	call, p := ca.verify(step, req, body)
	if p == nil {
		p = ca.answer(w, step, req.URL.Path, call)
	}
	if p != nil {
		refuse(w, p)
	}
}

func refuse(w http.ResponseWriter, p *problem) {
	if p.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(p.retry/time.Second)+1))
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
}

func refusal(status int, kind, format string, args ...any) *problem {
	return &problem{Type: "urn:ietf:params:acme:error:" + kind, Status: status, Detail: fmt.Sprintf(format, args...)}
}

func (ca *CA) directory(w http.ResponseWriter) {
	dir := map[string]any{}
	for _, name := range []string{"newNonce", "newAccount", "newOrder", "revokeCert", "keyChange", "renewalInfo"} {
		dir[name] = ca.o.URL + "/" + name
	}
	writeJSON(w, http.StatusOK, dir)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (ca *CA) nonce() string {
	n := rand.Text()
	ca.nonces[n] = true
	return n
}

func (ca *CA) url(kind string) string {
	ca.next++
	return ca.o.URL + "/" + kind + "/" + strconv.Itoa(ca.next)
}

func (ca *CA) answer(w http.ResponseWriter, step, path string, c *call) *problem {
	url := ca.o.URL + path
	switch step {
	case "newAccount":
		return ca.newAccount(w, c)
	case "newOrder":
		return ca.newOrder(w, c)
	case "order":
		o := ca.orders[url]
		if o == nil || o.account != c.account.url {
			return refusal(http.StatusNotFound, "malformed", "no order %s", url)
		}
		ca.writeOrder(w, http.StatusOK, o)
	case "orders":
		ca.listOrders(w, c, path)
	case "authz":
		z := ca.authzs[url]
		if z == nil || z.account != c.account.url {
			return refusal(http.StatusNotFound, "malformed", "no authorization %s", url)
		}
		ca.writeAuthz(w, z)
	case "challenge":
		return ca.tell(w, c, path)
	case "finalize":
		return ca.finalize(w, c, path)
	case "certificate":
		o := ca.orders[ca.o.URL+"/order/"+path[len("/certificate/"):]]
		if o == nil || o.chain == nil {
			return refusal(http.StatusNotFound, "malformed", "no certificate %s", url)
		}
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		_, _ = w.Write(o.chain)
	default:
		return refusal(http.StatusNotFound, "malformed", "nothing is at %s", url)
	}
	return nil
}

func nameSet(names []string) string {
	sorted := slices.Clone(names)
	slices.Sort(sorted)
	return strings.ToLower(strings.Join(sorted, " "))
}

func fromBase64(s string) ([]byte, error) { return base64.RawURLEncoding.DecodeString(s) }
