package strict

import (
	"bufio"
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/entrypoint"
	"gatehouse/internal/proxy"
	"gatehouse/internal/upstream"
)

// FuzzOneReading sends bytes to an entry point with a guarded route and an open
// one, each to a server of its own. Whatever reaches a server has the same reading
// for net/http, for a lenient reader and for us; the route that was matched is
// that of the path the server sees, however it decodes and cleans it.
func FuzzOneReading(f *testing.F) {
	for _, group := range [][]item{framing(), lines(), hosts(), chunks(), methods(), forwarded(), paths(), expects()} {
		for _, i := range group {
			f.Add([]byte(i.send + hidden))
		}
	}
	for _, target := range []string{"/admin", "/admin/x", "/Admin", "//admin", "/x/../admin", "/%61dmin", "/admin%2f", "/./admin", "/admin;x", "/x/%2e%2e/admin", "/adminx", "/admin/../x", "/admin/..%2fx"} {
		f.Add([]byte(get(target, "")))
	}
	open, guarded := newOrigin(f), newOrigin(f)
	s := guardedServer(f, open, guarded)
	f.Fuzz(func(t *testing.T, sent []byte) {
		if len(sent) > 20_000 {
			return
		}
		exchangeAll(t, s, sent)
		for _, text := range open.got() {
			for _, p := range readings(t, sent, text) {
				if p == "/admin" || strings.HasPrefix(p, "/admin/") {
					t.Fatalf("%q: the open server got the guarded path %s: %q", sent, p, text)
				}
			}
		}
		for _, text := range guarded.got() {
			for _, p := range readings(t, sent, text) {
				if p != "/admin" && !strings.HasPrefix(p, "/admin/") {
					t.Fatalf("%q: the guarded server got %s: %q", sent, p, text)
				}
			}
		}
	})
}

func guardedServer(f *testing.F, open, guarded *origin) *entrypoint.Server {
	f.Helper()
	reg := upstream.NewRegistry(upstream.Options{})
	f.Cleanup(reg.Close)
	service := func(o *origin) config.Service {
		return config.Service{LoadBalancer: &config.LoadBalancer{Servers: []config.Server{{URL: "http://" + o.socket.Addr().String(), Weight: 1}}}}
	}
	snap, problems := proxy.Compile(config.Routing{
		Routers: map[string]config.Router{
			"open@f":    {Rule: "PathPrefix(`/`)", Service: "open@f", EntryPoints: []string{"web"}},
			"guarded@f": {Rule: "Path(`/admin`) || PathPrefix(`/admin/`)", Service: "guarded@f", EntryPoints: []string{"web"}},
		},
		Services: map[string]config.Service{"open@f": service(open), "guarded@f": service(guarded)},
	}, reg, proxy.Options{EntryPoints: []proxy.EntryPoint{{Name: "web", Address: "127.0.0.1:80"}}})
	if len(problems) > 0 {
		f.Fatal(problems)
	}
	p := proxy.New(nil)
	p.Swap(snap)
	return serve(f, entrypoint.Options{Name: "web", Address: "127.0.0.1:0", Handler: p.Handler("web"), Plain: p.Plain("web"), Logger: slog.New(slog.DiscardHandler)})
}

// exchangeAll sends, says that this was all, and waits for the end.
func exchangeAll(t *testing.T, s *entrypoint.Server, sent []byte) {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second)) //nolint:errcheck // then Read says so
	c.Write(sent)                                  //nolint:errcheck // the server may have had enough
	c.(*net.TCPConn).CloseWrite()                  //nolint:errcheck // as above
	if _, err := io.Copy(io.Discard, c); err != nil {
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			t.Fatalf("%q: the connection hangs", sent)
		}
	}
}

// readings gives the paths of all whole requests in what a server got, and fails
// where readers differ.
func readings(t *testing.T, sent []byte, text string) (paths []string) {
	t.Helper()
	in := bufio.NewReader(strings.NewReader(text))
	strict := bufio.NewReader(strings.NewReader(text))
	for {
		head, err := lenientHead(in)
		if err != nil {
			return paths
		}
		r, err := http.ReadRequest(strict)
		if err != nil {
			t.Fatalf("%q: net/http cannot read %q: %v", sent, text, err)
		}
		line, _, _ := strings.Cut(head, "\r\n")
		parts := strings.Split(line, " ")
		if len(parts) != 3 || parts[0] != r.Method || parts[1] != r.RequestURI || parts[2] != "HTTP/1.1" {
			t.Fatalf("%q: readers differ on %q", sent, line)
		}
		if strings.Count(head, "\n") != strings.Count(head, "\r\n") || strings.Count(head, "\r") != strings.Count(head, "\r\n") {
			t.Fatalf("%q: odd line ends in %q", sent, head)
		}
		paths = append(paths, everyReading(t, sent, r)...)
		var lenient bytes.Buffer
		whole := skipBody(bufio.NewReader(io.TeeReader(in, &lenient)), head) == nil
		if _, err := io.Copy(io.Discard, r.Body); whole != (err == nil) {
			t.Fatalf("%q: readers differ on the end of %q", sent, text)
		}
		// One request a text is enough where a body was read ahead of.
		if lenient.Len() > 0 || !whole {
			return paths
		}
	}
}

// everyReading gives the path as it stands and as servers are known to take it.
func everyReading(t *testing.T, sent []byte, r *http.Request) []string {
	t.Helper()
	if r.RequestURI == "*" {
		return nil
	}
	raw, _, _ := strings.Cut(r.RequestURI, "?")
	decoded, err := url.PathUnescape(raw)
	if err != nil {
		t.Fatalf("%q: a path that does not decode: %q", sent, raw)
	}
	return []string{raw, decoded, path.Clean(raw), path.Clean(decoded), strings.ReplaceAll(decoded, "\\", "/")}
}
