// Package strict judges what reaches servers through a real entry point, byte by
// byte: raw sockets on both sides, nothing that could tidy up on the way.
package strict

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gatehouse/internal/config"
	"gatehouse/internal/entrypoint"
	"gatehouse/internal/proxy"
	"gatehouse/internal/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// origin is a server that takes down every byte it gets and answers whatever
// looks like a whole request to a lenient reader.
type origin struct {
	socket net.Listener
	answer func(head string) string // "" closes the connection
	early  func(head string) string // if set, answers before the body is read

	mu    sync.Mutex
	conns []*record
	wait  sync.WaitGroup
}

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func newOrigin(t testing.TB) *origin {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &origin{socket: l, answer: func(string) string { return okAnswer }}
	o.wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			o.wait.Go(func() { o.serve(c) })
		}
	})
	t.Cleanup(func() { l.Close(); o.wait.Wait() })
	return o
}

// record is all that came by one connection.
type record struct {
	text bytes.Buffer
	seen int // given by got
	done int // of whole requests
	over bool
}

// recorded writes down what is read.
type recorded struct {
	net.Conn
	o   *origin
	log *record
}

func (r recorded) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.o.mu.Lock()
	defer r.o.mu.Unlock()
	r.log.text.Write(p[:n])
	return n, err
}

func (o *origin) serve(c net.Conn) {
	defer c.Close()
	log := new(record)
	o.mu.Lock()
	o.conns = append(o.conns, log)
	o.mu.Unlock()
	defer o.note(func() { log.over = true })
	in := bufio.NewReader(recorded{c, o, log})
	for {
		head, err := lenientHead(in)
		if err != nil {
			return
		}
		if o.early != nil {
			io.WriteString(c, o.early(head)) //nolint:errcheck // the connection ends either way
			return
		}
		if err := skipBody(in, head); err != nil {
			return
		}
		o.note(func() { log.done = log.text.Len() - in.Buffered() })
		text := o.answer(head)
		if text == "" {
			return
		}
		if _, err := io.WriteString(c, text); err != nil {
			return
		}
	}
}

// lenientHead reads to an empty line, whatever the line ends are.
func lenientHead(in *bufio.Reader) (string, error) {
	var head strings.Builder
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return "", err
		}
		if head.WriteString(line); strings.TrimRight(line, "\r\n") == "" && head.Len() > len(line) {
			return head.String(), nil
		}
	}
}

func skipBody(in *bufio.Reader, head string) error {
	lower := strings.ToLower(head)
	if strings.Contains(lower, "transfer-encoding: chunked") {
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return err
			}
			n, err := strconv.ParseInt(strings.TrimSpace(line), 16, 32)
			if err != nil {
				return err
			}
			if n == 0 {
				for { // trailers
					if line, err = in.ReadString('\n'); err != nil || strings.TrimSpace(line) == "" {
						return err
					}
				}
			}
			if _, err := io.CopyN(io.Discard, in, n+2); err != nil {
				return err
			}
		}
	}
	_, after, ok := strings.Cut(lower, "content-length: ")
	if !ok {
		return nil
	}
	text, _, _ := strings.Cut(after, "\r\n")
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return err
	}
	_, err = io.CopyN(io.Discard, in, n)
	return err
}

func (o *origin) note(change func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change()
}

// settled: no connection is in the middle of a request.
func (o *origin) settled() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.conns {
		if !c.over && c.done != c.text.Len() {
			return false
		}
	}
	return true
}

// got gives what is new by each connection that brought anything, once none is
// in the middle of something.
func (o *origin) got() (list []string) {
	for end := time.Now().Add(2 * time.Second); !o.settled() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.conns {
		if text := c.text.String()[c.seen:]; text != "" {
			list = append(list, text)
		}
		c.seen = c.text.Len()
	}
	return list
}

// carried gives all that ever came by the connection that brought a text.
func (o *origin) carried(what string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.conns {
		if text := c.text.String(); strings.Contains(text, what) {
			return text
		}
	}
	return ""
}

// way is one way through the product.
type way struct {
	name   string
	server *entrypoint.Server
	origin *origin
}

// ways are the plain path and that of handlers, each to an origin of its own.
func ways(t testing.TB, change func(*entrypoint.Options), routers ...string) []*way {
	t.Helper()
	var list []*way
	for _, name := range []string{"plain", "handlers"} {
		o := newOrigin(t)
		p := newProxy(t, o, routers...)
		opts := entrypoint.Options{Name: "web", Address: "127.0.0.1:0", Handler: p.Handler("web"), Logger: slog.New(slog.DiscardHandler)}
		if name == "plain" {
			opts.Plain = p.Plain("web")
		}
		if change != nil {
			change(&opts)
		}
		list = append(list, &way{name, serve(t, opts), o})
	}
	return list
}

func newProxy(t testing.TB, o *origin, routers ...string) *proxy.Proxy {
	t.Helper()
	reg := upstream.NewRegistry(upstream.Options{})
	t.Cleanup(reg.Close)
	lb := &config.LoadBalancer{}
	lb.Servers = append(lb.Servers, config.Server{URL: "http://" + o.socket.Addr().String(), Weight: 1})
	r := config.Routing{Routers: map[string]config.Router{}, Services: map[string]config.Service{"s@f": {LoadBalancer: lb}}}
	for i, rule := range append(routers, "PathPrefix(`/`)") {
		r.Routers[fmt.Sprintf("r%d@f", i)] = config.Router{Rule: rule, Service: "s@f", EntryPoints: []string{"web"}}
	}
	snap, problems := proxy.Compile(r, reg, proxy.Options{EntryPoints: []proxy.EntryPoint{{Name: "web", Address: "127.0.0.1:80"}}})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	p := proxy.New(nil)
	p.Swap(snap)
	return p
}

func serve(t testing.TB, opts entrypoint.Options) *entrypoint.Server {
	t.Helper()
	s, err := entrypoint.Listen(opts)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		s.Shutdown(ctx) //nolint:errcheck // what hangs is cut off
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return s
}

// send sends bytes on a connection of its own and gives all that comes back.
// Where the server waits for more it is told that there is none.
func (w *way) send(t testing.TB, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", w.server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	var answer bytes.Buffer
	b := make([]byte, 4096)
	wait := 3 * time.Second
	for half := false; ; {
		c.SetReadDeadline(time.Now().Add(wait)) //nolint:errcheck // then Read says so
		n, err := c.Read(b)
		answer.Write(b[:n])
		if n > 0 {
			if !half {
				wait = 60 * time.Millisecond // what else there is comes at once
			}
			continue
		}
		if ne, ok := err.(net.Error); ok && ne.Timeout() && !half {
			half, wait = true, 3*time.Second // the server ends now
			c.(*net.TCPConn).CloseWrite()    //nolint:errcheck // then Read says so
			continue
		}
		return answer.String()
	}
}

var statusLine = regexp.MustCompile(`HTTP/1\.[01] (\d{3}) `)

// statuses are those of all answers, interim ones included.
func statuses(answer string) (list []string) {
	for _, found := range statusLine.FindAllStringSubmatch(answer, -1) {
		list = append(list, found[1])
	}
	return list
}

// ownLines are those every request gets.
var ownLines = regexp.MustCompile(`(X-Forwarded-[A-Za-z]+|X-Real-Ip): [^\r\n]*\r\n`)

// canon brings a request to a form that can be compared: names of header lines
// in small letters and sorted, those left out that every request gets.
func canon(message string) string {
	head, body, _ := strings.Cut(ownLines.ReplaceAllString(message, ""), "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	var fields []string
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		fields = append(fields, strings.ToLower(name)+":"+value)
	}
	slices.Sort(fields)
	return strings.Join(append([]string{lines[0]}, fields...), "\r\n") + "\r\n\r\n" + body
}
