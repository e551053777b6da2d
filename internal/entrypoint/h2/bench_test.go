package h2

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// kilobyte answers as a proxy would: a declared length, one write.
func kilobyte(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h["Content-Type"] = contentType
	h["Content-Length"] = contentLength
	w.Write(kilobyteBody)
}

var (
	contentType   = []string{"text/plain; charset=utf-8"}
	contentLength = []string{"1024"}
	kilobyteBody  = bytes.Repeat([]byte("x"), 1024)
)

// cheapClient asks for the same again and again, with as little work of its
// own as can be: frames are prepared, answers only counted.
type cheapClient struct {
	nc      net.Conn
	request []byte // one HEADERS frame, all from the static and dynamic table
	id      uint32
	buf     []byte
	r, w    int
}

func newCheapClient(t testing.TB, nc net.Conn) *cheapClient {
	c := &cheapClient{nc: nc, id: 1, buf: make([]byte, 64<<10)}
	var b, hb bytes.Buffer
	fr := http2.NewFramer(&b, nil)
	enc := hpack.NewEncoder(&hb)
	lines := ask("GET", "/index.html", "user-agent: cheap/1.0", "accept: */*", "accept-encoding: gzip, br")
	block := func() {
		hb.Reset()
		for _, line := range lines {
			i := strings.Index(line[1:], ": ") + 1
			enc.WriteField(hpack.HeaderField{Name: line[:i], Value: line[i+2:]})
		}
	}
	b.WriteString(http2.ClientPreface)
	fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxWindow})
	fr.WriteWindowUpdate(0, maxWindow-65535)
	block()
	fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: hb.Bytes(), EndStream: true, EndHeaders: true})
	if _, err := nc.Write(b.Bytes()); err != nil {
		t.Fatal(err)
	}
	b.Reset()
	block()
	fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: hb.Bytes(), EndStream: true, EndHeaders: true})
	c.request = bytes.Clone(b.Bytes())
	if c.ends() < 0 {
		t.Fatal("no answer")
	}
	return c
}

// ends reads until at least one answer has ended, and counts them; -1: the
// connection is over.
func (c *cheapClient) ends() (n int) {
	for {
		for c.w-c.r >= 9 {
			h := c.buf[c.r:]
			length := int(h[0])<<16 | int(h[1])<<8 | int(h[2])
			if c.w-c.r < 9+length {
				break
			}
			if h[3] <= 1 && h[4]&1 != 0 {
				n++
			}
			c.r += 9 + length
		}
		if n > 0 {
			return n
		}
		copy(c.buf, c.buf[c.r:c.w])
		c.w -= c.r
		c.r = 0
		m, err := c.nc.Read(c.buf[c.w:])
		if c.w += m; err != nil {
			return -1
		}
	}
}

// run asks n times, with so many streams at once.
func (c *cheapClient) run(n, streams int) bool {
	var out []byte
	for asked, done := 0, 0; done < n; {
		out = out[:0]
		for ; asked < n && asked-done < streams; asked++ {
			c.id += 2
			out = append(out, c.request...)
			binary.BigEndian.PutUint32(out[len(out)-len(c.request)+5:], c.id)
		}
		if len(out) > 0 {
			if _, err := c.nc.Write(out); err != nil {
				return false
			}
		}
		m := c.ends()
		if m < 0 {
			return false
		}
		done += m
	}
	return true
}

func BenchmarkRequest(b *testing.B) {
	for _, bench := range []struct {
		name    string
		streams int
	}{{"1 stream", 1}, {"10 streams", 10}, {"100 streams", 100}} {
		b.Run(bench.name, func(b *testing.B) {
			nc, err := net.Dial("tcp", listen(b, Options{Handler: http.HandlerFunc(kilobyte)}))
			if err != nil {
				b.Fatal(err)
			}
			defer nc.Close()
			c := newCheapClient(b, nc)
			c.run(1000, bench.streams)
			b.ReportAllocs()
			b.ResetTimer()
			if !c.run(b.N, bench.streams) {
				b.Fatal("the connection ended")
			}
		})
	}
}

// BenchmarkServerCPU measures the CPU time of the server alone, a process of
// its own, on two threads; net/http's server for comparison.
func BenchmarkServerCPU(b *testing.B) {
	for _, kind := range []string{"h2", "net/http"} {
		for _, n := range [][2]int{{64, 1}, {64, 4}, {8, 32}} {
			b.Run(fmt.Sprintf("%s/%d connections, %d streams", kind, n[0], n[1]), func(b *testing.B) { benchCPU(b, kind, n[0], n[1]) })
		}
	}
}

func benchCPU(b *testing.B, kind string, conns, streams int) {
	cmd := exec.Command(os.Args[0], "-test.run=TestBenchServer")
	cmd.Env = append(os.Environ(), "H2_BENCH_SERVER="+kind, "GOMAXPROCS=2")
	stdin, _ := cmd.StdinPipe()
	stdout, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	addr := make([]byte, 64)
	n, _ := stdout.Read(addr)
	var clients []*cheapClient
	for range conns {
		nc, err := net.Dial("tcp", strings.TrimSpace(string(addr[:n])))
		if err != nil {
			b.Fatal(err)
		}
		defer nc.Close()
		c := newCheapClient(b, nc)
		c.run(500, streams)
		clients = append(clients, c)
	}
	usage := func() time.Duration {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+2:]))
		user, _ := strconv.Atoi(fields[11])
		system, _ := strconv.Atoi(fields[12])
		return time.Duration(user+system) * 10 * time.Millisecond
	}
	before := usage()
	b.ResetTimer()
	var wg sync.WaitGroup
	for _, c := range clients {
		wg.Go(func() { c.run(b.N/conns+1, streams) })
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(usage()-before)/float64(b.N)/1e3, "server-us/op")
	stdin.Close()
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait()
}

// TestBenchServer is the server process of BenchmarkServerCPU.
func TestBenchServer(t *testing.T) {
	kind := os.Getenv("H2_BENCH_SERVER")
	if kind == "" {
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	os.Stdout.WriteString(l.Addr().String() + "\n")
	if kind == "h2" {
		s := New(Options{Handler: http.HandlerFunc(kilobyte)})
		go func() {
			for {
				nc, err := l.Accept()
				if err != nil {
					return
				}
				go s.ServeConn(t.Context(), nc, nil)
			}
		}()
	} else {
		s := &http.Server{Handler: http.HandlerFunc(kilobyte), Protocols: new(http.Protocols)}
		s.Protocols.SetUnencryptedHTTP2(true)
		go s.Serve(l)
	}
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}
