package entrypoint

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/net/http2"
)

// idleConns is how many connections TestIdleCosts holds.
const idleConns = 200

// holdIdle is the client, in a process of its own: it opens connections, has one
// answer on each, says so and waits for its input to end.
func holdIdle(address, proto string) error {
	held := make([]*tls.Conn, idleConns)
	for i := range held {
		c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{proto}})
		if err != nil {
			return err
		}
		if held[i] = c; proto == "h2" {
			err = askFrames(c)
		} else {
			fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			_, err = http.ReadResponse(bufio.NewReader(c), nil)
		}
		if err != nil {
			return err
		}
	}
	fmt.Println("held")
	_, err := io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(held)
	return err
}

// askFrames has one request of HTTP/2 answered.
func askFrames(c net.Conn) error {
	fr := http2.NewFramer(c, c)
	io.WriteString(c, http2.ClientPreface)
	fr.WriteSettings()
	get := []byte{0x82, 0x84, 0x87, 0x41, 1, 'a'} // GET / https, authority a
	fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: get, EndHeaders: true, EndStream: true})
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return err
		}
		if s, ok := f.(*http2.SettingsFrame); ok && !s.IsAck() {
			fr.WriteSettingsAck()
		}
		if h := f.Header(); h.StreamID == 1 && h.Flags.Has(http2.FlagDataEndStream) {
			return nil
		}
	}
}

// TestIdleCosts: what a connection under TLS holds on the heap and as stack while
// its client is silent. The process takes up to twice that, for the collector.
func TestIdleCosts(t *testing.T) {
	for proto, most := range map[string]int64{"http/1.1": 14 << 10, "h2": 16 << 10} {
		t.Run(proto, func(t *testing.T) {
			s := start(t, Options{Handler: echo(), TLS: testTLS(t)})
			before := inUse()
			child := exec.Command(os.Args[0])
			child.Env = append(os.Environ(), "ENTRYPOINT_IDLE="+s.Addr().String(), "ENTRYPOINT_PROTO="+proto)
			child.Stderr = os.Stderr
			in, err := child.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := child.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			defer child.Wait()
			defer in.Close()
			if text, err := bufio.NewReader(out).ReadString('\n'); text != "held\n" {
				t.Fatal(text, err)
			}
			cost := (inUse() - before) / idleConns
			if t.Logf("%d bytes a connection", cost); cost > most*slower || cost <= 0 {
				t.Errorf("want %d at most", most*slower)
			}
		})
	}
}

func inUse() int64 {
	var m runtime.MemStats
	for range 3 { // stacks shrink by the way, pools are emptied by the second
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
