package upstream_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/upstream"
)

// answerer is an origin on a bare socket that is given each request's reader
// and the connection to answer on.
func answerer(t testing.TB, serve func(c net.Conn, br *bufio.Reader)) (url string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c, bufio.NewReader(c))
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// untilBlank reads a head.
func untilBlank(br *bufio.Reader) string {
	var head strings.Builder
	for {
		line, err := br.ReadString('\n')
		head.WriteString(line)
		if err != nil || line == "\r\n" {
			return head.String()
		}
	}
}

// eachWay runs a test with a connection to an entry point whose service is the
// origin, by the plain path and by handlers.
func eachWay(t *testing.T, serve func(c net.Conn, br *bufio.Reader), test func(t *testing.T, c net.Conn, br *bufio.Reader)) {
	for way, plain := range map[string]bool{"plain": true, "handler": false} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			r, _ := newRegistry(t, upstream.Options{})
			service, _ := build(t, r, one(balanced(srv("a", answerer(t, serve)))), 0).Service("s@file")
			c, err := net.Dial("tcp", entry(t, service, plain))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(5 * time.Second))
			test(t, c, bufio.NewReader(c))
		})
	}
}

func wantBytes(t *testing.T, what string, br *bufio.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(br, got)
	if string(got[:n]) != want {
		t.Errorf("%s: got %q (%v), wanted %q", what, got[:n], err, want)
	}
}

func TestHopByHopFieldsOfAnswers(t *testing.T) {
	eachWay(t, func(c net.Conn, br *bufio.Reader) {
		untilBlank(br)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: X-Private, keep-alive\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\n"+
			"Proxy-Authenticate: Basic\r\nProxy-Connection: close\r\nUpgrade: h2c\r\nX-Public: 2\r\nContent-Length: 0\r\n\r\n")
	}, func(t *testing.T, c net.Conn, br *bufio.Reader) {
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		delete(res.Header, "Date")
		if fmt.Sprint(res.Header) != "map[Content-Length:[0] X-Public:[2]]" || res.Close {
			t.Error(res.Header, res.Close)
		}
	})
}

func TestTrailersBothWays(t *testing.T) {
	eachWay(t, func(c net.Conn, br *bufio.Reader) {
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Told\r\n\r\n%x\r\n%s\r\n0\r\nX-Told: %v\r\nX-Untold: yes\r\n\r\n",
			len(body), body, r.Trailer)
	}, func(t *testing.T, c net.Conn, br *bufio.Reader) {
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n")
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if string(body) != "hello" || err != nil || res.Trailer.Get("X-Told") != "map[X-Sum:[7]]" || res.Trailer.Get("X-Untold") != "yes" {
			t.Errorf("%q %v %v", body, err, res.Trailer)
		}
	})
}

func TestExpectBothWays(t *testing.T) {
	const head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
	t.Run("wanted", func(t *testing.T) {
		eachWay(t, func(c net.Conn, br *bufio.Reader) {
			if !strings.Contains(untilBlank(br), "Expect: 100-continue\r\n") {
				io.WriteString(c, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
				return
			}
			io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
			body := make([]byte, 5)
			io.ReadFull(br, body)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n%s", body)
		}, func(t *testing.T, c net.Conn, br *bufio.Reader) {
			io.WriteString(c, head)
			wantBytes(t, "hints", br, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
			io.WriteString(c, "hello")
			if got := untilBlank(br) + untilBlank(br); !strings.Contains(got, "200 OK") {
				t.Error(got)
			}
			wantBytes(t, "body", br, "hello")
		})
	})
	t.Run("unwanted", func(t *testing.T) {
		eachWay(t, func(c net.Conn, br *bufio.Reader) {
			untilBlank(br)
			io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
			if rest, _ := io.ReadAll(br); len(rest) > 0 {
				t.Errorf("the body was sent all the same: %q", rest)
			}
		}, func(t *testing.T, c net.Conn, br *bufio.Reader) {
			io.WriteString(c, head)
			got, _ := io.ReadAll(br)
			if !strings.HasPrefix(string(got), "HTTP/1.1 403 ") || !strings.Contains(string(got), "Connection: close\r\n") {
				t.Errorf("%q", got)
			}
		})
	})
}

// A server may answer by turns with the client, and before it has everything.
func TestFullDuplex(t *testing.T) {
	eachWay(t, func(c net.Conn, br *bufio.Reader) {
		untilBlank(br)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		for {
			size, err := br.ReadString('\n')
			if err != nil {
				return
			}
			line, _ := br.ReadString('\n')
			io.WriteString(c, size+line)
			if size == "0\r\n" {
				return
			}
		}
	}, func(t *testing.T, c net.Conn, br *bufio.Reader) {
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
		untilBlank(br)
		for _, chunk := range []string{"3\r\none\r\n", "3\r\ntwo\r\n", "0\r\n\r\n"} {
			io.WriteString(c, chunk)
			wantBytes(t, "echo", br, chunk)
		}
	})
}

func TestWebSocketBothWays(t *testing.T) {
	eachWay(t, func(c net.Conn, br *bufio.Reader) {
		untilBlank(br)
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\nfirst")
		io.Copy(c, br)
	}, func(t *testing.T, c net.Conn, br *bufio.Reader) {
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n\r\nahead")
		head := untilBlank(br)
		for _, line := range []string{"HTTP/1.1 101 ", "Connection: Upgrade\r\n", "Upgrade: websocket\r\n", "ccept: x\r\n"} {
			if strings.Count(head, line) != 1 {
				t.Errorf("%q in %q", line, head)
			}
		}
		wantBytes(t, "tunnel", br, "firstahead")
		for range 3 {
			io.WriteString(c, "more")
			wantBytes(t, "tunnel", br, "more")
		}
		c.(*net.TCPConn).CloseWrite()
		if rest, err := io.ReadAll(br); len(rest) > 0 || err != nil {
			t.Errorf("%q, %v", rest, err)
		}
	})
}

// A client that goes away takes its request with it.
func TestClientGoesAway(t *testing.T) {
	gone := make(chan bool, 2)
	eachWay(t, func(c net.Conn, br *bufio.Reader) {
		untilBlank(br)
		io.Copy(io.Discard, br) // until the other side closes
		gone <- true
	}, func(t *testing.T, c net.Conn, br *bufio.Reader) {
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		time.Sleep(10 * time.Millisecond)
		c.Close()
		select {
		case <-gone:
		case <-time.After(5 * time.Second):
			t.Error("the server was left waiting")
		}
	})
}

// A client that has said all may close its side and still get its answer: it is
// given a second, below handlers as on the plain path, then it counts as gone.
func TestClientClosesItsSide(t *testing.T) {
	for name, request := range map[string]string{
		"get":     "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"length":  "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
		"chunked": "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	} {
		gone := make(chan bool, 2)
		serve := func(c net.Conn, br *bufio.Reader) {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			io.Copy(io.Discard, r.Body)
			if r.Header.Get("X-Answer") != "" {
				time.Sleep(200 * time.Millisecond)
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				return
			}
			io.Copy(io.Discard, br) // until the other side closes
			gone <- true
		}
		t.Run(name+"/answered", func(t *testing.T) {
			t.Parallel()
			eachWay(t, serve, func(t *testing.T, c net.Conn, br *bufio.Reader) {
				for range 20 { // a busy machine may take longer than a client is given
					c, err := net.Dial("tcp", c.RemoteAddr().String())
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					c.SetDeadline(time.Now().Add(30 * time.Second))
					began := time.Now()
					io.WriteString(c, strings.Replace(request, "Host: x\r\n", "Host: x\r\nX-Answer: 1\r\n", 1))
					c.(*net.TCPConn).CloseWrite()
					all, err := io.ReadAll(c)
					if strings.HasSuffix(string(all), "\r\n\r\nok") {
						return
					}
					if took := time.Since(began); took < 900*time.Millisecond {
						t.Fatalf("after %v: %q, %v", took, all, err)
					}
				}
				t.Error("never answered in time")
			})
		})
		t.Run(name+"/silent", func(t *testing.T) {
			t.Parallel()
			eachWay(t, serve, func(t *testing.T, c net.Conn, br *bufio.Reader) {
				c.SetDeadline(time.Now().Add(30 * time.Second))
				began := time.Now()
				io.WriteString(c, request)
				c.(*net.TCPConn).CloseWrite()
				select {
				case <-gone:
				case <-time.After(30 * time.Second):
					t.Fatal("the server was left waiting")
				}
				if took := time.Since(began); took < 900*time.Millisecond {
					t.Errorf("given up after %v", took)
				}
			})
		})
	}
}

// Bodies too long for one read come whole and in order, also where the kernel
// moves them.
func TestLongBodies(t *testing.T) {
	long := make([]byte, 3<<20)
	for i := range long {
		long[i] = byte(i * 2654435761 >> 13)
	}
	eachWay(t, func(c net.Conn, br *bufio.Reader) {
		for {
			head := untilBlank(br)
			if head == "" {
				return
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(long))
			c.Write(long[:100])
			time.Sleep(10 * time.Millisecond)
			c.Write(long[100 : 1<<20])
			if strings.Contains(head, " /slow ") {
				time.Sleep(1100 * time.Millisecond) // longer than anybody waits without looking around
			}
			if strings.Contains(head, " /cut ") {
				return
			}
			c.Write(long[1<<20:])
		}
	}, func(t *testing.T, c net.Conn, br *bufio.Reader) {
		for _, path := range []string{"/fast", "/slow", "/fast", "/cut"} {
			fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
			res, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			switch {
			case path == "/cut":
				if err != io.ErrUnexpectedEOF || !bytes.Equal(body, long[:1<<20]) {
					t.Errorf("%s: %d bytes, %v", path, len(body), err)
				}
			case !bytes.Equal(body, long) || err != nil:
				t.Errorf("%s: %d bytes, %v", path, len(body), err)
			}
		}
	})
}
