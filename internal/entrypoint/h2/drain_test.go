package h2

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// piped is a client on a connection in memory, in a bubble of its own time.
func piped(t *testing.T, s *Server) (c *rawClient, closed chan struct{}) {
	ours, theirs := net.Pipe()
	closed = make(chan struct{})
	go func() {
		defer close(closed)
		s.ServeConn(context.Background(), theirs, nil)
	}()
	c = &rawClient{t: t, nc: ours, fr: http2.NewFramer(ours, ours)}
	c.greet()
	return c, closed
}

// answering reads all that comes, and answers pings if it is told to. It gives
// the GOAWAYs.
func (c *rawClient) answering(pings bool) (goAways []uint32) {
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			return goAways
		}
		switch f := f.(type) {
		case *http2.PingFrame:
			if pings {
				c.must(c.fr.WritePing(true, f.Data))
			}
		case *http2.GoAwayFrame:
			goAways = append(goAways, f.LastStreamID)
		}
	}
}

// TestDrainTakes: how long an idle connection lasts when the server stops.
func TestDrainTakes(t *testing.T) {
	for name, c := range map[string]struct {
		pings bool
		want  time.Duration
	}{
		"a client that answers pings": {true, 0},
		"one that answers nothing":    {false, drainWait + farewellWait},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(Options{Handler: http.NotFoundHandler()})
				client, closed := piped(t, s)
				told := make(chan []uint32)
				go func() { told <- client.answering(c.pings) }()
				synctest.Wait()
				begin := time.Now()
				if err := s.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
				<-closed
				if took := time.Since(begin); took != c.want {
					t.Errorf("took %v, want %v", took, c.want)
				}
				if got := <-told; len(got) != 2 || got[0] != maxWindow || got[1] != 0 {
					t.Errorf("last streams told: %d", got)
				}
			})
		})
	}
}

// TestDrainAfterAnswer: a request under way is answered, and the connection ends
// once the client has shown that it has the answer.
func TestDrainAfterAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(3 * time.Second)
			io.WriteString(w, "late")
		})})
		client, closed := piped(t, s)
		synctest.Wait()
		var block []byte
		block = append(block, 0x82, 0x84, 0x86, 0x41, 1, 'a') // GET / http, authority a
		client.must(client.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true, EndStream: true}))
		content := make(chan string)
		go func() {
			text := ""
			for {
				f, err := client.fr.ReadFrame()
				if err != nil {
					content <- text
					return
				}
				switch f := f.(type) {
				case *http2.PingFrame:
					client.must(client.fr.WritePing(true, f.Data))
				case *http2.DataFrame:
					text += string(f.Data())
				}
			}
		}()
		time.Sleep(time.Second)
		begin := time.Now()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		<-closed
		if took := time.Since(begin); took != 2*time.Second {
			t.Errorf("took %v, want the 2 s that the answer takes", took)
		}
		if got := <-content; got != "late" {
			t.Errorf("got %q", got)
		}
	})
}
