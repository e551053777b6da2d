package strict

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestExpectLate: a server says nothing of a request that waits for "100
// Continue" until about when it would be sent the body unasked. Whatever comes
// first, "100 Continue" never follows the final answer, nor stands within it.
func TestExpectLate(t *testing.T) {
	t.Parallel()
	content := strings.Repeat("0123456789", 2000) + "end"
	for _, w := range ways(t, nil) {
		var mu sync.Mutex
		turn := 0
		w.origin.early = func(head string) string {
			mu.Lock()
			turn++
			wait := time.Second + time.Duration(turn%40-20)*200*time.Microsecond
			mu.Unlock()
			time.Sleep(wait)
			return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(content), content)
		}
		var wait sync.WaitGroup
		for range 80 {
			wait.Go(func() {
				c, err := net.Dial("tcp", w.server.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(10 * time.Second))                                                          //nolint:errcheck // then reads say so
				io.WriteString(c, "POST / HTTP/1.1\r\nHost: a.com\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n") //nolint:errcheck // likewise
				var all strings.Builder
				for b := make([]byte, 4096); !strings.Contains(all.String(), "end") && err == nil; {
					n := 0
					n, err = c.Read(b)
					all.Write(b[:n])
				}
				c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)) //nolint:errcheck // nothing must follow
				io.Copy(&all, c)                                         //nolint:errcheck // likewise
				_, final, ok := strings.Cut(all.String(), "HTTP/1.1 200 OK")
				if _, body, _ := strings.Cut(final, "\r\n\r\n"); !ok || err != nil || body != content {
					t.Errorf("%s: %v, %d bytes, 100 Continue at %d of %d", w.name, err, len(body), strings.Index(final, "100 Continue"), len(final))
				}
			})
		}
		wait.Wait()
	}
}
