package upstream_test

import (
	"bytes"
	"net"
	"net/http"
	"strings"
	"testing"

	"gatehouse/internal/config"
	"gatehouse/internal/entrypoint"
	"gatehouse/internal/upstream"
)

// benchOrigin answers every head with the same bytes, and allocates nothing.
func benchOrigin(b *testing.B, answer string) (url string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	bytesOf := []byte(answer)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 64<<10)
				for n := 0; ; {
					m, err := c.Read(buf[n:])
					if err != nil {
						return
					}
					if n += m; bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) || bytes.HasSuffix(buf[:n], []byte("end")) {
						c.Write(bytesOf)
						n = 0
					}
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// benchExchange sends the same request again and again on one connection.
func benchExchange(b *testing.B, plain bool, request, answer string) {
	r := upstream.NewRegistry(upstream.Options{})
	b.Cleanup(r.Close)
	set, _ := r.Build(map[string]config.Service{"s": {LoadBalancer: &config.LoadBalancer{
		Servers: []config.Server{{URL: benchOrigin(b, answer), Weight: 1}}}}}, 1)
	b.Cleanup(set.Release)
	service, _ := set.Service("s")
	opts := entrypoint.Options{Name: "web", Address: "127.0.0.1:0", Handler: service.Handler(nil)}
	if plain {
		opts.Handler, opts.Plain = http.NotFoundHandler(), service.Plain(nil)
	}
	address := serveEntry(b, opts)
	send, buf := []byte(request), make([]byte, 2<<20)
	var c net.Conn
	size, left := 0, 0
	once := func() {
		if left--; left < 0 { // a connection lives for 10,000 requests
			if c != nil {
				c.Close()
			}
			var err error
			if c, err = net.Dial("tcp", address); err != nil {
				b.Fatal(err)
			}
			left = 9_000
		}
		if _, err := c.Write(send); err != nil {
			b.Fatal(err)
		}
		n, err := 0, error(nil)
		for size == 0 || n < size {
			m := 0
			if m, err = c.Read(buf[n:]); err != nil {
				b.Fatal(err)
			}
			n += m
			if i := bytes.Index(buf[:n], []byte("\r\n\r\n")); size == 0 && i >= 0 {
				size = i + 4 + len(answer) - strings.Index(answer, "\r\n\r\n") - 4
			}
		}
	}
	once()
	b.ReportAllocs()
	b.SetBytes(int64(size))
	for b.Loop() {
		once()
	}
	c.Close()
}

const benchHead = "Host: bench.test\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n"

// BenchmarkExchange is a whole request through an entry point to a server and
// back, on one connection each; client and server are in the figures of time
// and allocate nothing.
func BenchmarkExchange(b *testing.B) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\nContent-Length: "
	small := head + "1024\r\n\r\n" + strings.Repeat("x", 1024)
	for way, plain := range map[string]bool{"plain": true, "handler": false} {
		b.Run("get/"+way, func(b *testing.B) {
			benchExchange(b, plain, "GET /path?q=1 HTTP/1.1\r\n"+benchHead+"\r\n", small)
		})
		b.Run("post/"+way, func(b *testing.B) {
			benchExchange(b, plain, "POST /path HTTP/1.1\r\n"+benchHead+"Content-Length: 4096\r\n\r\n"+strings.Repeat("y", 4093)+"end", small)
		})
		b.Run("megabyte/"+way, func(b *testing.B) {
			benchExchange(b, plain, "GET /path HTTP/1.1\r\n"+benchHead+"\r\n", head+"1048576\r\n\r\n"+strings.Repeat("x", 1<<20))
		})
	}
}
