package smallca

import (
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (ca *CA) newAccount(w http.ResponseWriter, c *call) *problem {
	for _, a := range ca.accounts {
		if a.thumb == c.thumb {
			w.Header().Set("Location", a.url)
			writeJSON(w, http.StatusOK, ca.accountView(a))
			return nil
		}
	}
	a := &account{url: ca.url("account"), thumb: c.thumb, key: c.key}
	ca.accounts[a.url] = a
	w.Header().Set("Location", a.url)
	writeJSON(w, http.StatusCreated, ca.accountView(a))
	return nil
}

func (ca *CA) accountView(a *account) map[string]any {
	v := map[string]any{"status": "valid"}
	if ca.o.ListOrders {
		v["orders"] = strings.Replace(a.url, "/account/", "/orders/", 1)
	}
	return v
}

// listOrders gives a page of those that are not invalid, oldest first.
func (ca *CA) listOrders(w http.ResponseWriter, c *call, path string) {
	const size = 3
	at, page, _ := strings.Cut(path, "/page/")
	n, _ := strconv.Atoi(page)
	var urls []string
	for _, o := range ca.orders {
		if o.account == c.account.url && ca.refresh(o) != "invalid" {
			urls = append(urls, o.url)
		}
	}
	slices.SortFunc(urls, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b)) })
	urls = urls[min(n*size, len(urls)):]
	if len(urls) > size {
		w.Header().Set("Link", fmt.Sprintf(`<%s%s/page/%d>;rel="next"`, ca.o.URL, at, n+1))
		urls = urls[:size]
	}
	writeJSON(w, http.StatusOK, map[string]any{"orders": urls})
}

func (ca *CA) newOrder(w http.ResponseWriter, c *call) *problem {
	var want struct {
		Identifiers []identifier
		Replaces    string
	}
	if json.Unmarshal(c.payload, &want) != nil || len(want.Identifiers) == 0 {
		return refusal(http.StatusBadRequest, "malformed", "no identifiers")
	}
	var list []string
	for _, id := range want.Identifiers {
		list = append(list, id.Value)
	}
	names, now := nameSet(list), time.Now()
	inWindow := false
	if want.Replaces != "" {
		old := ca.issued[want.Replaces]
		switch {
		case old == nil:
			return refusal(http.StatusNotFound, "malformed", "no certificate %s", want.Replaces)
		case old.next != nil && ca.refresh(old.next) != "invalid":
			ca.Log.Conflicts++
			return refusal(http.StatusConflict, "alreadyReplaced", "%s is replaced by another order", want.Replaces)
		}
		inWindow = !now.Before(old.start) && now.Before(old.end)
	}
	if ca.paused != "" {
		ca.Log.Limited++
		return refusal(http.StatusTooManyRequests, "rateLimited",
			"Your account is temporarily prevented from requesting certificates for %s and possibly others. Please visit: %s", list[0], ca.paused)
	}
	if p := ca.spend(now, c.account.url, list, names, inWindow); p != nil {
		ca.Log.Limited++
		return p
	}
	ca.Log.NewOrders[names]++
	if o := ca.open[c.account.url+" "+names]; o != nil && !ca.o.ForgetOrders {
		if s := ca.refresh(o); s == "pending" || s == "ready" {
			w.Header().Set("Location", o.url)
			ca.writeOrder(w, http.StatusCreated, o)
			return nil
		}
	}
	o := &order{url: ca.url("order"), account: c.account.url, names: names, identifiers: want.Identifiers, status: "pending",
		made: now, expires: now.Add(ca.o.OrderLife), replaces: want.Replaces, inWindow: inWindow}
	for _, id := range want.Identifiers {
		o.authzs = append(o.authzs, ca.authorize(c.account.url, id).url)
	}
	ca.orders[o.url], ca.open[o.account+" "+names] = o, o
	ca.Log.Orders[names]++
	if want.Replaces != "" {
		ca.issued[want.Replaces].next = o
	}
	w.Header().Set("Location", o.url)
	ca.writeOrder(w, http.StatusCreated, o)
	return nil
}

func (ca *CA) authorize(account string, id identifier) *authz {
	base, wildcard := strings.CutPrefix(id.Value, "*.")
	if z := ca.proofs[account+" "+id.Value]; z != nil && time.Now().Before(z.expires) {
		if z.status == "pending" || z.status == "valid" && ca.o.AuthzReuse > 0 {
			return z
		}
	}
	z := &authz{url: ca.url("authz"), account: account, id: identifier{id.Type, base}, wildcard: wildcard, status: "pending",
		token: rand.Text(), expires: time.Now().Add(ca.o.OrderLife)}
	ca.authzs[z.url], ca.proofs[account+" "+id.Value] = z, z
	return z
}

// refresh brings an order's status up to the present.
func (ca *CA) refresh(o *order) string {
	switch o.status {
	case "pending":
		valid := true
		for _, url := range o.authzs {
			z := ca.authzs[url]
			if z == nil || z.status == "invalid" {
				o.status = "invalid"
			}
			valid = valid && z != nil && z.status == "valid"
		}
		if valid && o.status == "pending" {
			o.status = "ready"
		}
	case "processing":
		if !time.Now().Before(o.ready) {
			o.status = "valid"
		}
	}
	if (o.status == "pending" || o.status == "ready") && time.Now().After(o.expires) {
		o.status = "invalid"
	}
	return o.status
}

func (ca *CA) writeOrder(w http.ResponseWriter, status int, o *order) {
	id := o.url[strings.LastIndexByte(o.url, '/')+1:]
	v := map[string]any{"status": ca.refresh(o), "identifiers": o.identifiers, "authorizations": o.authzs,
		"expires": o.expires.UTC().Format(time.RFC3339), "finalize": ca.o.URL + "/finalize/" + id}
	if o.status == "valid" {
		v["certificate"] = ca.o.URL + "/certificate/" + id
	}
	if o.err != nil {
		v["error"] = o.err
	}
	writeJSON(w, status, v)
}

var kinds = []string{"http-01", "dns-01", "tls-alpn-01"}

func (ca *CA) writeAuthz(w http.ResponseWriter, z *authz) {
	id := z.url[strings.LastIndexByte(z.url, '/')+1:]
	var challenges []map[string]any
	for n, kind := range kinds {
		c := map[string]any{"type": kind, "url": ca.o.URL + "/challenge/" + id + "/" + strconv.Itoa(n), "token": z.token, "status": "pending"}
		if z.told == kind {
			c["status"] = "processing"
			if z.status != "pending" {
				c["status"] = z.status
			}
			if z.err != nil {
				c["error"] = z.err
			}
		}
		challenges = append(challenges, c)
	}
	writeJSON(w, http.StatusOK, map[string]any{"status": z.status, "identifier": z.id, "wildcard": z.wildcard,
		"expires": z.expires.UTC().Format(time.RFC3339), "challenges": challenges})
}

// tell begins a validation. A second telling changes nothing: Boulder has no
// retry of challenges.
func (ca *CA) tell(w http.ResponseWriter, c *call, path string) *problem {
	id, n, _ := strings.Cut(strings.TrimPrefix(path, "/challenge/"), "/")
	z := ca.authzs[ca.o.URL+"/authz/"+id]
	kind, err := strconv.Atoi(n)
	if z == nil || err != nil || kind < 0 || kind >= len(kinds) || z.account != c.account.url {
		return refusal(http.StatusNotFound, "malformed", "no challenge %s", path)
	}
	if z.told != "" {
		ca.Log.DoubleSent++
	} else if z.status == "pending" {
		z.told = kinds[kind]
		keyAuth := z.token + "." + c.account.thumb
		time.AfterFunc(ca.o.Validation, func() { ca.validate(z, kinds[kind], keyAuth, c.account.url) })
	}
	writeJSON(w, http.StatusOK, map[string]any{"type": kinds[kind], "url": ca.o.URL + path, "token": z.token, "status": "processing"})
	return nil
}

func (ca *CA) validate(z *authz, kind, keyAuth, account string) {
	var err error
	if ca.o.Validate != nil {
		if kind == "dns-01" {
			sum := sha256.Sum256([]byte(keyAuth))
			keyAuth = base64.RawURLEncoding.EncodeToString(sum[:])
		}
		err = ca.o.Validate(kind, z.id.Value, z.token, keyAuth)
	}
	ca.mu.Lock()
	defer ca.mu.Unlock()
	if err == nil {
		z.status = "valid"
		if ca.o.AuthzReuse > 0 {
			z.expires = time.Now().Add(ca.o.AuthzReuse)
		}
		return
	}
	z.status, z.err = "invalid", refusal(http.StatusForbidden, "unauthorized", "%v", err)
	if ca.o.Limits {
		ca.take(time.Now(), limit{"failures " + account + " " + z.id.Value, 5, time.Hour, ""})
	}
}

func (ca *CA) finalize(w http.ResponseWriter, c *call, path string) *problem {
	o := ca.orders[ca.o.URL+"/order/"+strings.TrimPrefix(path, "/finalize/")]
	if o == nil || o.account != c.account.url {
		return refusal(http.StatusNotFound, "malformed", "no order at %s", path)
	}
	if s := ca.refresh(o); s != "ready" {
		ca.Log.DoubleSent++
		return refusal(http.StatusForbidden, "orderNotReady", "the order is %s", s)
	}
	var sent struct{ CSR string }
	der, err := []byte(nil), json.Unmarshal(c.payload, &sent)
	if err == nil {
		der, err = fromBase64(sent.CSR)
	}
	var csr *x509.CertificateRequest
	if err == nil {
		csr, err = x509.ParseCertificateRequest(der)
	}
	if err != nil {
		return refusal(http.StatusBadRequest, "badCSR", "%v", err)
	}
	names := slices.Clone(csr.DNSNames)
	for _, ip := range csr.IPAddresses {
		names = append(names, ip.String())
	}
	if nameSet(names) != o.names {
		return refusal(http.StatusBadRequest, "badCSR", "it is for %v", names)
	}
	ca.sign(o, csr)
	o.status, o.ready = "processing", time.Now().Add(ca.o.Issuance)
	ca.Log.Finalized[o.names]++
	ca.writeOrder(w, http.StatusOK, o)
	return nil
}

// Grant issues a certificate nobody ordered, made at a time in the past, and
// gives its chain in PEM: for tests that begin with many.
func (ca *CA) Grant(at time.Time, key crypto.PublicKey, names ...string) []byte {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	o := &order{names: nameSet(names), made: at}
	ca.sign(o, &x509.CertificateRequest{DNSNames: names, PublicKey: key})
	return o.chain
}

func (ca *CA) sign(o *order, csr *x509.CertificateRequest) {
	now := time.Now().Truncate(time.Second)
	if o.url == "" {
		now = o.made.Truncate(time.Second)
	}
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes([]byte(rand.Text())[:16]), DNSNames: csr.DNSNames, IPAddresses: csr.IPAddresses,
		NotBefore: now, NotAfter: now.Add(ca.o.Lifetime), AuthorityKeyId: ca.root.SubjectKeyId,
	}
	der := must(x509.CreateCertificate(rand.Reader, template, ca.root, csr.PublicKey, ca.key))
	leaf := must(x509.ParseCertificate(der))
	o.chain = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	// Boulder: ideally at a third of life left, half of a short one; 1 % around.
	left := ca.o.Lifetime / 3
	if ca.o.Lifetime < 10*24*time.Hour {
		left = ca.o.Lifetime / 2
	}
	ideal := leaf.NotAfter.Add(-left)
	id := ariID(leaf)
	i := &Issued{ID: id, Names: o.names, Serial: leaf.SerialNumber.Text(16), Leaf: leaf, At: o.made, Signed: time.Now(), Replaces: o.replaces,
		InWindow: o.inWindow, start: ideal.Add(-ca.o.Lifetime / 100), end: ideal.Add(ca.o.Lifetime / 100)}
	ca.issued[id], ca.known[o.names] = i, true
	ca.Log.Issued = append(ca.Log.Issued, i)
}

func ariID(leaf *x509.Certificate) string {
	serial := leaf.SerialNumber.Bytes()
	if len(serial) > 0 && serial[0] >= 0x80 {
		serial = append([]byte{0}, serial...)
	}
	return base64.RawURLEncoding.EncodeToString(leaf.AuthorityKeyId) + "." + base64.RawURLEncoding.EncodeToString(serial)
}

func (ca *CA) renewalInfo(w http.ResponseWriter, id string) {
	i := ca.issued[id]
	ca.Log.ARI[id]++
	if i == nil {
		refuse(w, refusal(http.StatusNotFound, "malformed", "no certificate %s", id))
		return
	}
	w.Header().Set("Retry-After", strconv.Itoa(int(ca.o.Retry/time.Second)))
	writeJSON(w, http.StatusOK, map[string]any{"suggestedWindow": map[string]any{
		"start": i.start.UTC().Format(time.RFC3339Nano), "end": i.end.UTC().Format(time.RFC3339Nano)}})
}

// limit is a token bucket: burst in every per.
type limit struct {
	key   string
	burst int
	per   time.Duration
	text  string
}

// spend takes what an order costs, or says which limit forbids it, as the one
// that ends last.
func (ca *CA) spend(now time.Time, account string, list []string, names string, exempt bool) *problem {
	if !ca.o.Limits || exempt {
		return nil
	}
	week := 7 * 24 * time.Hour
	limits := []limit{{"set " + names, 5, week, fmt.Sprintf("too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s: %s", names)}}
	for _, name := range list {
		z := limit{"failures " + account + " " + strings.TrimPrefix(name, "*."), 5, time.Hour,
			fmt.Sprintf("too many failed authorizations (5) for %q in the last 1h0m0s", strings.TrimPrefix(name, "*."))}
		if at := ca.buckets[z.key].Add(z.per / time.Duration(z.burst)); at.After(now.Add(z.per)) {
			return limited(z, at.Sub(now.Add(z.per)))
		}
	}
	if !ca.known[names] {
		limits = append(limits, limit{"orders " + account, ca.o.NewOrders, 3 * time.Hour,
			fmt.Sprintf("too many new orders (%d) from this account in the last 3h0m0s", ca.o.NewOrders)})
		for _, d := range domains(list) {
			limits = append(limits, limit{"domain " + d, 50, week, fmt.Sprintf("too many certificates (50) already issued for %q in the last 168h0m0s", d)})
		}
	}
	var worst time.Duration
	var p *problem
	for _, l := range limits {
		if at := l.after(ca.buckets[l.key], now).Sub(now.Add(l.per)); at > worst {
			worst, p = at, limited(l, at)
		}
	}
	if p != nil {
		return p
	}
	for _, l := range limits {
		ca.take(now, l)
	}
	return nil
}

func limited(l limit, wait time.Duration) *problem {
	p := refusal(http.StatusTooManyRequests, "rateLimited", "%s, retry after %s", l.text, time.Now().Add(wait).UTC().Format("2006-01-02 15:04:05 UTC"))
	p.retry = wait
	return p
}

func (l limit) after(tat, now time.Time) time.Time {
	if tat.Before(now) {
		tat = now
	}
	return tat.Add(l.per / time.Duration(l.burst))
}

func (ca *CA) take(now time.Time, l limit) { ca.buckets[l.key] = l.after(ca.buckets[l.key], now) }

// domains are the registered ones: here, the last two labels.
func domains(names []string) []string {
	var out []string
	for _, n := range names {
		if net.ParseIP(n) == nil {
			labels := strings.Split(n, ".")
			n = strings.Join(labels[max(0, len(labels)-2):], ".")
		}
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}
