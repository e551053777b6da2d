package strict

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/entrypoint"
	"gatehouse/internal/http1"
	"gatehouse/internal/middleware"
	"gatehouse/internal/proxy"
	"gatehouse/internal/upstream"
	"gatehouse/internal/wire"
)

// mixTime is how long the mixed load lasts.
const (
	mixTime = 3 * time.Second
	enough  = 20 // whole answers, to have tried anything
)

// mix is a load of requests that each say who they are, in the path, a header
// and every piece of the body, and whose answers must say the same: no byte may
// reach anybody else, whatever clients, servers and the configuration do.
type mix struct {
	t       *testing.T
	entry   string
	ids     atomic.Int64
	whole   [3]atomic.Int64 // answers that came whole, by who asked
	other   [600]atomic.Int64
	strange atomic.Int64
}

// tried is how many answers came whole to the one who got fewest.
func (m *mix) tried() int64 {
	return min(m.whole[0].Load(), m.whole[1].Load(), m.whole[2].Load())
}

// report tells of the first few mix-ups.
func (m *mix) report(format string, args ...any) {
	if m.strange.Add(1) <= 10 {
		m.t.Errorf(format, args...)
	}
}

// TestNoMixUps sends tagged requests by HTTP/1.1 and HTTP/2, pipelined, given
// up half-way, with bodies of all framings, on the plain path and through
// middlewares, while servers die in the middle of answers and snapshots are
// swapped.
func TestNoMixUps(t *testing.T) {
	m := &mix{t: t}
	var origins []*mixOrigin
	for range 3 {
		origins = append(origins, newMixOrigin(t, m))
	}
	p, swap := newMixProxy(t, origins)
	s := serve(t, entrypoint.Options{Name: "web", Address: "127.0.0.1:0", Handler: p.Handler("web"), Plain: p.Plain("web"),
		H2C: true, Logger: slog.New(slog.DiscardHandler)})
	m.entry = s.Addr().String()

	began := time.Now()
	goesOn := func() bool {
		past := time.Since(began)
		return past < mixTime || m.tried() < enough && past < 20*mixTime // a busy machine needs longer
	}
	var wait sync.WaitGroup
	repeat := func(pause time.Duration, f func()) {
		wait.Go(func() {
			for goesOn() {
				f()
				time.Sleep(pause)
			}
		})
	}
	for range 6 {
		repeat(0, m.pipeline)
		repeat(0, m.giveUp)
	}
	for range 2 {
		repeat(0, func() { m.http2(t.Context()) })
	}
	repeat(15*time.Millisecond, swap)
	repeat(70*time.Millisecond, func() { origins[rand.N(2)].kill() }) // the last one lives
	wait.Wait()
	for status := range m.other {
		if n := m.other[status].Load(); n > 0 {
			t.Logf("%d answers of %d", n, status)
		}
	}
	for i, name := range []string{"pipeline", "giveUp", "http2"} {
		n := m.whole[i].Load()
		t.Logf("%s: %d whole answers", name, n)
		if n < enough {
			t.Errorf("%s: only %d answers came whole: nothing was tried", name, n)
		}
	}
}

// newMixProxy gives a proxy, and what swaps its snapshot for another.
func newMixProxy(t *testing.T, origins []*mixOrigin) (p *proxy.Proxy, swap func()) {
	reg := upstream.NewRegistry(upstream.Options{})
	t.Cleanup(reg.Close)
	p = proxy.New(nil)
	round := 0
	swap = func() {
		round++
		lb := &config.LoadBalancer{}
		for i, o := range origins {
			if i == round%len(origins) && round%5 == 0 {
				continue // one leaves now and then
			}
			lb.Servers = append(lb.Servers, config.Server{URL: "http://" + o.socket.Addr().String(), Weight: 1 + round%2})
		}
		name := fmt.Sprintf("s%d@f", round%2)
		snap, problems := proxy.Compile(config.Routing{
			Routers: map[string]config.Router{
				"plain@f":    {Rule: "PathPrefix(`/`)", Service: name, EntryPoints: []string{"web"}},
				"handlers@f": {Rule: "PathPrefix(`/m/`)", Service: name, EntryPoints: []string{"web"}, Middlewares: []string{"tag@f"}},
				"stages@f":   {Rule: "PathPrefix(`/s/`)", Service: name, EntryPoints: []string{"web"}, Middlewares: []string{"staged@f"}},
			},
			Services:    map[string]config.Service{name: {LoadBalancer: lb}},
			Middlewares: map[string]config.Middleware{"tag@f": {Kind: "tag"}, "staged@f": {Kind: "staged"}},
		}, reg, proxy.Options{
			EntryPoints: []proxy.EntryPoint{{Name: "web", Address: "127.0.0.1:80"}},
			Builders: map[string]middleware.Builder{
				"tag": func(*config.Node, middleware.Env) (middleware.Middleware, []config.Problem) {
					return middleware.Middleware{Wrap: tag}, nil
				},
				"staged": func(*config.Node, middleware.Env) (middleware.Middleware, []config.Problem) {
					return middleware.Middleware{Wrap: tag, Stage: middleware.Stage{Pass: stageTag}}, nil
				},
			},
		})
		if len(problems) > 0 {
			t.Error(problems)
		}
		p.Swap(snap)
	}
	swap()
	return p, swap
}

// tag puts a request's id on its answer.
func tag(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Passed", r.Header.Get("X-Id"))
		next.ServeHTTP(w, r)
	})
}

// stageTag is the same without handlers; it leaves some requests to them, late.
func stageTag(x *wire.Exchange) bool {
	id := string(x.Req.Lookup("x-id"))
	said, _ := http1.NewEdit("X-Said", "twice")
	passed, _ := http1.NewEdit("Passed", "-")
	return x.Req.Edit(&said) && x.EditAnswer([]http1.Edit{passed.With(id)}) && rand.N(8) > 0
}

// mixOrigin answers a request with what it says of itself; the path says how.
type mixOrigin struct {
	m      *mix
	socket net.Listener
	mu     sync.Mutex
	conns  map[net.Conn]bool
}

func newMixOrigin(t *testing.T, m *mix) *mixOrigin {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &mixOrigin{m: m, socket: l, conns: map[net.Conn]bool{}}
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			o.mu.Lock()
			o.conns[c] = true
			o.mu.Unlock()
			wait.Go(func() { o.serve(c) })
		}
	})
	t.Cleanup(func() { l.Close(); o.kill(); wait.Wait() })
	return o
}

// kill ends all connections, whatever is under way on them.
func (o *mixOrigin) kill() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for c := range o.conns {
		c.Close()
	}
}

func (o *mixOrigin) serve(c net.Conn) {
	defer func() {
		c.Close()
		o.mu.Lock()
		delete(o.conns, c)
		o.mu.Unlock()
	}()
	in := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			if !isEnd(err) {
				o.m.report("a server got what is no request: %v", err)
			}
			return
		}
		id := r.Header.Get("X-Id")
		parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/") // way, id, how, size
		if len(parts) != 4 || parts[1] != id {
			o.m.report("a server got the path %q with the id %q", r.URL.Path, id)
			return
		}
		early := strings.Contains(parts[2], "E")
		if r.Header.Get("Expect") != "" && !early && rand.N(5) > 0 {
			io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n") //nolint:errcheck // what follows will tell
		}
		if !early && !o.m.drain(r.Body, id, "request of "+parts[2]) {
			return
		}
		size, _ := strconv.Atoi(parts[3])
		if !answerMix(c, r.Method, id, parts[2], size) {
			return
		}
		if early {
			// Answered before the body was read; what is left of it is read now.
			if !o.m.drain(r.Body, id, "late request of "+parts[2]) {
				return
			}
		}
	}
}

// isEnd: the connection ended, as connections do here.
func isEnd(err error) bool {
	var network net.Error
	return err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &network) && !network.Timeout()
}

// drain reads a body, all of whose lines must be of one id.
func (m *mix) drain(body io.Reader, id, what string) bool {
	want := mixLine(id)
	b := make([]byte, len(want))
	for {
		n, err := io.ReadFull(body, b)
		if !strings.HasPrefix(want, string(b[:n])) {
			m.report("%s, id %s: %q in its body", what, id, b[:n])
			return false
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			m.report("%s, id %s: it hangs", what, id)
		}
		if err != nil {
			return err == io.EOF
		}
	}
}

// mixLine is what bodies are made of.
func mixLine(id string) string { return id + " is what I am called\n" }

func mixBody(id string, size int) string { return strings.Repeat(mixLine(id), size) }

// answerMix answers; it tells whether the connection goes on. how has a letter
// for each thing that is out of the ordinary.
func answerMix(c net.Conn, method, id, how string, size int) bool {
	body := mixBody(id, size)
	var out bytes.Buffer
	if strings.Contains(how, "I") {
		fmt.Fprintf(&out, "HTTP/1.1 103 Early Hints\r\nX-Id: %s\r\n\r\n", id)
	}
	fmt.Fprintf(&out, "HTTP/1.1 200 OK\r\nX-Id: %s\r\n", id)
	switch {
	case method == "HEAD":
		fmt.Fprintf(&out, "Content-Length: %d\r\n\r\n", len(body))
	case strings.Contains(how, "C"):
		out.WriteString("Transfer-Encoding: chunked\r\n\r\n")
		for text := body; text != ""; {
			n := min(len(text), 1+rand.N(30_000))
			fmt.Fprintf(&out, "%x\r\n%s\r\n", n, text[:n])
			text = text[n:]
		}
		fmt.Fprintf(&out, "0\r\nX-Tail: %s\r\n\r\n", id)
	case strings.Contains(how, "U"):
		out.WriteString("Connection: close\r\n\r\n" + body)
	default:
		fmt.Fprintf(&out, "Content-Length: %d\r\n\r\n%s", len(body), body)
	}
	// Says more than it was asked, at once: what comes later, behind another's
	// request, nobody can tell from its answer.
	if strings.Contains(how, "J") && !strings.ContainsAny(how, "UXS") && size <= 200 {
		out.WriteString("HTTP/1.1 200 OK\r\nX-Id: junk\r\nContent-Length: 5\r\n\r\njunk\n")
	}
	if strings.Contains(how, "X") { // breaks off
		head := bytes.LastIndex(out.Bytes(), []byte("\r\n\r\n")) // a few break off before: servers that always do are not asked any more
		out.Truncate(max(rand.N(out.Len()), head*rand.N(10)/9))
	}
	for text := out.Bytes(); len(text) > 0; {
		n := len(text)
		if strings.Contains(how, "S") {
			n = min(n, 1+rand.N(n))
			time.Sleep(time.Millisecond)
		}
		if _, err := c.Write(text[:n]); err != nil {
			return false
		}
		text = text[n:]
	}
	return !strings.ContainsAny(how, "UX")
}

// question is one request of the load.
type question struct {
	id, method, path, how string
	size                  int
	body                  string
}

func (m *mix) question() question {
	q := question{id: fmt.Sprintf("n%07d", m.ids.Add(1)), method: "GET", how: "N"}
	for _, letter := range "ICUXSJE" {
		if rand.N(6) == 0 {
			q.how += string(letter)
		}
	}
	q.size = []int{0, 1, 10, 200, 3000, 9000}[rand.N(6)]
	switch rand.N(4) {
	case 0:
		q.method = "HEAD"
	case 1, 2:
		q.method = "POST"
		q.body = mixBody(q.id, []int{0, 1, 50, 1000, 8000}[rand.N(5)])
	}
	q.path = fmt.Sprintf("/%s/%s/%s/%d", []string{"p", "m", "s"}[rand.N(3)], q.id, q.how, q.size)
	return q
}

// text is the request in HTTP/1.1.
func (q question) text() []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s %s HTTP/1.1\r\nHost: mix\r\nX-Id: %s\r\n", q.method, q.path, q.id)
	switch {
	case q.method != "POST":
		out.WriteString("\r\n")
	case rand.N(2) == 0:
		fmt.Fprintf(&out, "Content-Length: %d\r\n\r\n%s", len(q.body), q.body)
	default:
		if rand.N(8) == 0 {
			out.WriteString("Expect: 100-continue\r\n") // and does not wait
		}
		out.WriteString("Transfer-Encoding: chunked\r\n\r\n")
		for text := q.body; text != ""; {
			n := min(len(text), 1+rand.N(40_000))
			fmt.Fprintf(&out, "%x\r\n%s\r\n", n, text[:n])
			text = text[n:]
		}
		fmt.Fprintf(&out, "0\r\nX-Tail: %s\r\n\r\n", q.id)
	}
	return out.Bytes()
}

// judge looks at an answer, and tells whether it is whole.
func (m *mix) judge(who int, q question, res *http.Response) bool {
	if res.StatusCode != http.StatusOK {
		m.other[res.StatusCode].Add(1)
		_, err := io.Copy(io.Discard, res.Body)
		if res.Header.Get("X-Id") != "" {
			m.report("id %s (%s): %d of %s", q.id, q.how, res.StatusCode, res.Header.Get("X-Id"))
		}
		return err == nil
	}
	for _, name := range []string{"X-Id", "Passed"} {
		if got := res.Header.Get(name); got != q.id && (name == "X-Id" || q.path[1] != 'p') {
			m.report("id %s (%s %s): answer has %s %q", q.id, q.method, q.path, name, got)
			return false
		}
	}
	want := len(mixBody(q.id, q.size))
	if q.method == "HEAD" {
		want = 0
	}
	count := &counted{r: res.Body}
	over := m.drain(count, q.id, "answer to "+q.how)
	if tail := res.Trailer.Get("X-Tail"); tail != "" && tail != q.id {
		m.report("id %s: trailer of %s", q.id, tail)
	}
	switch {
	case over && count.n != want && !strings.ContainsAny(q.how, "XU"):
		m.report("id %s (%s %s): %d bytes taken for all of %d", q.id, q.method, q.path, count.n, want)
	case over && count.n == want:
		m.whole[who].Add(1)
	}
	return over
}

type counted struct {
	r io.Reader
	n int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

func (m *mix) dial() net.Conn {
	c, err := net.Dial("tcp", m.entry)
	if err != nil {
		m.report("dial: %v", err)
		return nil
	}
	c.SetDeadline(time.Now().Add(10 * time.Second)) //nolint:errcheck // reads will say so
	return c
}

// pipeline sends some requests at once, and reads the answers in their order.
func (m *mix) pipeline() {
	c := m.dial()
	if c == nil {
		return
	}
	defer c.Close()
	var list []question
	var out []byte
	for range 1 + rand.N(6) {
		q := m.question()
		list, out = append(list, q), append(out, q.text()...)
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for len(out) > 0 {
			n := min(len(out), 1+rand.N(100_000))
			if _, err := c.Write(out[:n]); err != nil {
				return
			}
			out = out[n:]
		}
	}()
	in := bufio.NewReader(c)
	for _, q := range list {
		res, err := readFinal(in, q.method)
		if err != nil {
			if !isEnd(err) {
				m.report("id %s (%s %s): %v", q.id, q.method, q.path, err)
			}
			break
		}
		if !m.judge(0, q, res) || res.Close {
			break
		}
	}
	c.Close()
	<-sent
}

// readFinal reads up to the final answer's head.
func readFinal(in *bufio.Reader, method string) (*http.Response, error) {
	for {
		res, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil || res.StatusCode >= 200 {
			return res, err
		}
	}
}

// giveUp sends half a request, or leaves half of the answer unread, or closes
// its side once it has asked.
func (m *mix) giveUp() {
	c := m.dial()
	if c == nil {
		return
	}
	defer c.Close()
	q := m.question()
	out := q.text()
	switch rand.N(4) {
	case 0: // half a request
		c.Write(out[:rand.N(len(out))]) //nolint:errcheck // it may be over
		return
	case 1: // an answer nobody reads, and a connection that is reset
		c.Write(out) //nolint:errcheck // likewise
		time.Sleep(rand.N(5 * time.Millisecond))
		c.(*net.TCPConn).SetLinger(0) //nolint:errcheck // then it is closed
		return
	case 2: // half an answer
		c.SetDeadline(time.Now().Add(20 * time.Millisecond)) //nolint:errcheck // likewise
		go c.Write(out)                                      //nolint:errcheck // likewise
		io.CopyN(io.Discard, c, int64(rand.N(20_000)))       //nolint:errcheck // likewise
		return
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		c.Write(out)                  //nolint:errcheck // likewise
		c.(*net.TCPConn).CloseWrite() //nolint:errcheck // likewise
	}()
	res, err := readFinal(bufio.NewReader(c), q.method)
	if err == nil {
		m.judge(1, q, res)
	} else if !isEnd(err) {
		m.report("id %s (%s %s): %v", q.id, q.method, q.path, err)
	}
	c.Close()
	<-sent
}

// http2 sends some requests at once on one connection, some of them taken back.
func (m *mix) http2(ctx context.Context) {
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	defer tr.CloseIdleConnections()
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 12 {
				m.stream(ctx, tr)
			}
		})
	}
	wait.Wait()
}

func (m *mix) stream(ctx context.Context, tr *http.Transport) {
	q := m.question()
	if rand.N(4) == 0 {
		short, cancel := context.WithTimeout(ctx, rand.N(8*time.Millisecond))
		defer cancel()
		ctx = short
	}
	var body io.Reader
	if q.body != "" {
		body = strings.NewReader(q.body)
		if rand.N(2) == 0 {
			body = struct{ io.Reader }{body} // of a length nobody knows
		}
	}
	req, err := http.NewRequestWithContext(ctx, q.method, "http://"+m.entry+q.path, body)
	if err != nil {
		m.report("%v", err)
		return
	}
	req.Header.Set("X-Id", q.id)
	res, err := tr.RoundTrip(req)
	if err != nil {
		return
	}
	defer res.Body.Close()
	if rand.N(6) == 0 {
		return // half an answer
	}
	m.judge(2, q, res)
}
