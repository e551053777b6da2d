package upstream_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/internal/entrypoint"
	"gatehouse/internal/upstream"
)

// scripted is an origin on a bare socket: the first request gets bytes, any
// other a sound answer.
type scripted struct {
	mu    sync.Mutex
	conns []net.Conn
	asked []string // "connection path", in order
}

func newScripted(t testing.TB, answer string, closes bool) (*scripted, string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := new(scripted)
	t.Cleanup(func() {
		l.Close()
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, c := range o.conns {
			c.Close()
		}
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			o.mu.Lock()
			o.conns = append(o.conns, c)
			n := len(o.conns)
			o.mu.Unlock()
			go o.serve(c, n, answer, closes)
		}
	}()
	return o, "http://" + l.Addr().String()
}

func (o *scripted) serve(c net.Conn, n int, answer string, closes bool) {
	defer c.Close()
	br := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		io.Copy(io.Discard, r.Body)
		o.mu.Lock()
		o.asked = append(o.asked, fmt.Sprint(n, r.URL.Path))
		o.mu.Unlock()
		if r.URL.Path != "/1" {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond")
			continue
		}
		first, late, _ := strings.Cut(answer, "<later>")
		io.WriteString(c, first)
		if late != "" {
			time.Sleep(20 * time.Millisecond)
			io.WriteString(c, late)
		}
		if closes {
			return
		}
	}
}

func (o *scripted) seen() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.asked, " ")
}

// entry serves a service on an entry point, by the plain path or by handlers.
func entry(t *testing.T, service *upstream.Service, plain bool) (address string) {
	opts := entrypoint.Options{Name: "web", Address: "127.0.0.1:0", Handler: service.Handler(nil)}
	if plain {
		opts.Handler, opts.Plain = http.NotFoundHandler(), service.Plain(nil)
	}
	return serveEntry(t, opts)
}

func serveEntry(t testing.TB, opts entrypoint.Options) (address string) {
	s, err := entrypoint.Listen(opts)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Shutdown(ctx) //nolint:errcheck // it is cut off
		<-served
	})
	return s.Addr().String()
}

const (
	ok    = "HTTP/1.1 200 OK\r\n"
	sized = ok + "Content-Length: 5\r\n"
)

// badOrigins is facts 6B: what an origin sends, and what a client is told.
// want is "502", "cut" (an answer that cannot be taken for whole), or the whole
// answer's status and body. again is the origin's connection that the next
// request must use: 1 is the same.
var badOrigins = map[string]struct {
	send   string
	closes bool
	method string // ""; GET
	extra  string // fields of the request
	want   string
	again  int
}{
	"sound":                        {send: sized + "\r\nhello", want: "200 hello", again: 1},
	"sound, chunked":               {send: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", want: "200 hello", again: 1},
	"sound, same length twice":     {send: sized + "Content-Length: 5\r\n\r\nhello", want: "200 hello", again: 1},
	"sound, until close":           {send: ok + "\r\nhello", closes: true, want: "200 hello", again: 2},
	"sound, 1.0":                   {send: "HTTP/1.0 200 OK\r\n\r\nhello", closes: true, want: "200 hello", again: 2},
	"sound, HEAD":                  {send: sized + "\r\n", method: "HEAD", want: "200 ", again: 1},
	"sound, 304":                   {send: "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", want: "304 ", again: 1},
	"sound, after interim answers": {send: strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 16) + sized + "\r\nhello", want: "200 hello", again: 1},

	"closes at once":            {closes: true, want: "502", again: 2},
	"closes in the status line": {send: "HTTP/1.1 20", closes: true, want: "502", again: 2},
	"closes in the head":        {send: sized + "X: y\r\n", closes: true, want: "502", again: 2},
	"closes after an interim":   {send: "HTTP/1.1 100 Continue\r\n\r\n", closes: true, want: "502", again: 2},
	"garbage":                   {send: "\x00\x01\x02 what is this\r\n\r\n", want: "502", again: 2},
	"no head (0.9)":             {send: "<html>hello</html>", closes: true, want: "502", again: 2},
	"empty line first":          {send: "\r\n" + sized + "\r\nhello", want: "502", again: 2},
	"version 2.0":               {send: "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", want: "502", again: 2},
	"version 1.2":               {send: "HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n", want: "502", again: 2},
	"version in lower case":     {send: "http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", want: "502", again: 2},
	"status 1000":               {send: "HTTP/1.1 1000 OK\r\nContent-Length: 0\r\n\r\n", want: "502", again: 2},
	"status 099":                {send: "HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n", want: "502", again: 2},
	"status of two digits":      {send: "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", want: "502", again: 2},
	"status no number":          {send: "HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n", want: "502", again: 2},
	"control byte in phrase":    {send: "HTTP/1.1 200 O\x01K\r\nContent-Length: 0\r\n\r\n", want: "502", again: 2},

	"line without colon":         {send: ok + "nonsense\r\nContent-Length: 0\r\n\r\n", want: "502", again: 2},
	"line without name":          {send: ok + ": x\r\nContent-Length: 0\r\n\r\n", want: "502", again: 2},
	"space before colon":         {send: ok + "Content-Length : 5\r\n\r\nhello", want: "502", again: 2},
	"folded line":                {send: sized + "X: a\r\n b\r\n\r\nhello", want: "502", again: 2},
	"bare LF":                    {send: "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", want: "502", again: 2},
	"bare CR":                    {send: ok + "X: a\rContent-Length: 0\r\n\r\n", want: "502", again: 2},
	"NUL in value":               {send: sized + "X: a\x00b\r\n\r\nhello", want: "502", again: 2},
	"control byte in value":      {send: sized + "X: a\x0bb\r\n\r\nhello", want: "502", again: 2},
	"control byte in name":       {send: sized + "X\x01: a\r\n\r\nhello", want: "502", again: 2},
	"head over 64 KiB":           {send: sized + "X: " + strings.Repeat("x", 65<<10) + "\r\n\r\nhello", want: "502", again: 2},
	"20,000 lines":               {send: sized + strings.Repeat("X: y\r\n", 20_000) + "\r\nhello", want: "502", again: 2},
	"17 interim answers":         {send: strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 17) + sized + "\r\nhello", want: "502", again: 2},
	"interim with a body":        {send: "HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nhello" + sized + "\r\nhello", want: "502", again: 2},
	"101 unasked":                {send: "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", want: "502", again: 2},
	"101 to something else":      {send: "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", extra: "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n", want: "502", again: 2},
	"two lengths":                {send: sized + "Content-Length: 6\r\n\r\nhello!", want: "502", again: 2},
	"two lengths in a line":      {send: ok + "Content-Length: 5, 6\r\n\r\nhello!", want: "502", again: 2},
	"negative length":            {send: ok + "Content-Length: -5\r\n\r\nhello", want: "502", again: 2},
	"signed length":              {send: ok + "Content-Length: +5\r\n\r\nhello", want: "502", again: 2},
	"length that is no number":   {send: ok + "Content-Length: 5x\r\n\r\nhello", want: "502", again: 2},
	"length in hex":              {send: ok + "Content-Length: 0x5\r\n\r\nhello", want: "502", again: 2},
	"length beyond counting":     {send: ok + "Content-Length: 99999999999999999999\r\n\r\nhello", want: "502", again: 2},
	"length and chunked":         {send: sized + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", want: "502", again: 2},
	"unknown coding":             {send: ok + "Transfer-Encoding: gzip\r\n\r\nhello", want: "502", again: 2},
	"two codings":                {send: ok + "Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", want: "502", again: 2},
	"chunked twice":              {send: ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", want: "502", again: 2},
	"coding with a vertical tab": {send: ok + "Transfer-Encoding: \x0bchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", want: "502", again: 2},
	"chunked by 1.0":             {send: "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", want: "502", again: 2},

	"body cut":                   {send: sized + "\r\nhel", closes: true, want: "cut"},
	"body cut at once":           {send: sized + "\r\n", closes: true, want: "cut"},
	"chunk cut":                  {send: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhel", closes: true, want: "cut"},
	"no last chunk":              {send: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", closes: true, want: "cut"},
	"cut in the trailers":        {send: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n", closes: true, want: "cut"},
	"chunk size no number":       {send: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n", want: "cut"},
	"chunk size with a prefix":   {send: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0x5\r\nhello\r\n0\r\n\r\n", want: "cut"},
	"chunk size negative":        {send: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n-5\r\nhello\r\n0\r\n\r\n", want: "cut"},
	"chunk size beyond counting": {send: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nffffffffffffffffff\r\nhello\r\n0\r\n\r\n", want: "cut"},
	"chunk without its end":      {send: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n", want: "cut"},
	"chunk with bare LF":         {send: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\nhello\r\n0\r\n\r\n", want: "cut"},
	"trailer that frames":        {send: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n", want: "cut"},
	"trailers without end":       {send: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n" + strings.Repeat("X: y\r\n", 10_000) + "\r\n", want: "cut"},

	"more than its length":                   {send: sized + "\r\nhello, and more", want: "200 hello", again: 2},
	"an answer nobody asked for":             {send: sized + "\r\nhello" + ok + "Content-Length: 4\r\n\r\nevil", want: "200 hello", again: 2},
	"an answer nobody asked for, in a while": {send: sized + "\r\nhello<later>" + ok + "Content-Length: 4\r\n\r\nevil", want: "200 hello", again: 2},
	"closes in a while":                      {send: sized + "\r\nhello<later>", closes: true, want: "200 hello", again: 2},
	"something behind the last chunk":        {send: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nx", want: "200 hello", again: 2},
	"body to HEAD":                           {send: sized + "\r\nhello", method: "HEAD", want: "200 ", again: 2},
	"body of 204":                            {send: "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", want: "204 ", again: 2},
	"body of 304":                            {send: "HTTP/1.1 304 Not Modified\r\n\r\nhello", want: "304 ", again: 2},
	"chunked 204":                            {send: "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", want: "204 ", again: 2},
	"asks to close, and does not":            {send: sized + "Connection: close\r\n\r\nhello", want: "200 hello", again: 2},
}

func TestBadOrigin(t *testing.T) {
	for name, tc := range badOrigins {
		for way, plain := range map[string]bool{"plain": true, "handler": false} {
			t.Run(name+"/"+way, func(t *testing.T) {
				t.Parallel()
				o, url := newScripted(t, tc.send, tc.closes)
				r, _ := newRegistry(t, upstream.Options{})
				service, _ := build(t, r, one(balanced(srv("a", url))), 0).Service("s@file")
				got := badOriginExchange(t, entry(t, service, plain), tc.method, tc.extra)
				if got != tc.want {
					t.Fatalf("got %q, wanted %q", got, tc.want)
				}
				if want := fmt.Sprintf("1/1 %d/2", tc.again); tc.want != "cut" && o.seen() != want {
					t.Errorf("origin was asked %s, wanted %s", o.seen(), want)
				}
			})
		}
	}
}

// badOriginExchange asks for /1 and, on the same connection, for /2, whose
// answer must be its own.
func badOriginExchange(t *testing.T, address, method, extra string) string {
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if method == "" {
		method = "GET"
	}
	fmt.Fprintf(c, "%s /1 HTTP/1.1\r\nHost: x\r\n%s\r\n", method, extra)
	br := bufio.NewReader(c)
	var res *http.Response
	for res == nil || res.StatusCode == 103 || res.StatusCode == 100 {
		if res, err = http.ReadResponse(br, &http.Request{Method: method}); err != nil {
			return "cut"
		}
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		if rest, _ := io.ReadAll(br); len(rest) > 0 || strings.Contains(err.Error(), "timeout") {
			t.Errorf("the connection goes on after a cut answer: %q, %v", rest, err)
		}
		return "cut"
	}
	got := fmt.Sprintf("%d %s", res.StatusCode, body)
	if res.StatusCode == 502 {
		if res.Header.Get(upstream.ReasonHeader) != "server-failed" {
			t.Error(res.Header)
		}
		got = "502"
	}
	time.Sleep(30 * time.Millisecond) // for what comes later
	fmt.Fprint(c, "GET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	res, err = http.ReadResponse(br, nil)
	if err != nil {
		return got + ", then " + err.Error()
	}
	if body, err = io.ReadAll(res.Body); string(body) != "second" || err != nil {
		t.Errorf("the second answer is %q, %v", body, err)
	}
	if rest, _ := io.ReadAll(br); len(rest) > 0 {
		t.Errorf("behind the answers: %q", rest)
	}
	return got
}
