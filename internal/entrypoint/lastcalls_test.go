package entrypoint

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestNobodyInTheQueueIsReset: clients that connect while the socket is closed
// are served or refused; none is let in and then reset.
func TestNobodyInTheQueueIsReset(t *testing.T) {
	for range 2 {
		s := start(t, Options{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})})
		var served, refused atomic.Int64
		var clients sync.WaitGroup
		for range 8 {
			clients.Go(func() {
				for {
					c, err := net.DialTimeout("tcp", s.Addr().String(), 3*time.Second)
					if errors.Is(err, syscall.ECONNREFUSED) {
						refused.Add(1)
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
					answer, err := io.ReadAll(c)
					c.Close()
					if err != nil || status(string(answer)) != "200" {
						t.Errorf("%q, %v", answer, err)
						return
					}
					served.Add(1)
				}
			})
		}
		time.Sleep(20 * time.Millisecond)
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		clients.Wait()
		if served.Load() == 0 || refused.Load() != 8 {
			t.Errorf("%d served, %d refused", served.Load(), refused.Load())
		}
	}
}

// TestSharedSocketOutlivesServer: a socket that somebody else holds too (systemd)
// lets clients in when its server has ended, for the next one.
func TestSharedSocketOutlivesServer(t *testing.T) {
	lc := new(net.ListenConfig)
	lc.SetMultipathTCP(false) // as systemd
	socket, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	held, err := socket.(*net.TCPListener).File()
	socket.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	for range 3 {
		again, err := net.FileListener(held)
		if err != nil {
			t.Fatal(err)
		}
		s := start(t, Options{Handler: echo(), Socket: again.(*net.TCPListener)})
		c, err := net.DialTimeout("tcp", s.Addr().String(), 20*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if status, err := askOn(c, bufio.NewReader(c), "a"); status != 200 {
			t.Fatal(status, err)
		}
		c.Close()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
