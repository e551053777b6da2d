package h2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// rawClient speaks HTTP/2 frame by frame, with x/net's Framer, so that it can
// say what no client library would.
type rawClient struct {
	t   testing.TB
	nc  net.Conn
	fr  *http2.Framer
	enc *hpack.Encoder
	hb  bytes.Buffer
}

func dialRaw(t testing.TB, addr string, settings ...http2.Setting) *rawClient {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c := newRaw(t, nc)
	c.greet(settings...)
	return c
}

func newRaw(t testing.TB, nc net.Conn) *rawClient {
	c := &rawClient{t: t, nc: nc, fr: http2.NewFramer(nc, nc)}
	c.fr.AllowIllegalWrites = true
	c.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.enc = hpack.NewEncoder(&c.hb)
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

func (c *rawClient) greet(settings ...http2.Setting) {
	c.t.Helper()
	io.WriteString(c.nc, http2.ClientPreface)
	c.must(c.fr.WriteSettings(settings...))
}

func (c *rawClient) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// block encodes lines, given as "name: value" (a leading colon is part of the
// name).
func (c *rawClient) block(lines ...string) []byte {
	c.hb.Reset()
	for _, line := range lines {
		i := strings.Index(line[1:], ": ") + 1
		c.enc.WriteField(hpack.HeaderField{Name: line[:i], Value: line[i+2:]})
	}
	return bytes.Clone(c.hb.Bytes())
}

func ask(method, path string, more ...string) []string {
	return append([]string{":method: " + method, ":scheme: https", ":authority: example.com", ":path: " + path}, more...)
}

func (c *rawClient) headers(id uint32, end bool, lines ...string) {
	c.t.Helper()
	c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.block(lines...), EndStream: end, EndHeaders: true}))
}

// next gives the next frame but SETTINGS and WINDOW_UPDATE; io.EOF at the end.
func (c *rawClient) next() (http2.Frame, error) {
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			return nil, err
		}
		switch f.(type) {
		case *http2.SettingsFrame, *http2.WindowUpdateFrame:
			continue
		}
		return f, nil
	}
}

// answer is what came on a stream.
type answer struct {
	interim []string
	status  string
	header  map[string]string
	body    string
	trailer map[string]string
	frames  string // H, D; lower case where it ends the stream
	reset   *http2.ErrCode
	goAway  *http2.ErrCode
}

func (a answer) String() string {
	return fmt.Sprintf("status %s, %d bytes, frames %s, reset %v, GOAWAY %v", a.status, len(a.body), a.frames, a.reset, a.goAway)
}

// answer reads until the stream or the connection ends.
func (c *rawClient) answer(id uint32) answer {
	c.t.Helper()
	var a answer
	for {
		f, err := c.next()
		if err != nil {
			if errors.Is(err, io.EOF) || strings.Contains(err.Error(), "reset by peer") {
				return a
			}
			c.t.Fatalf("%v, after %v", err, a)
		}
		if g, ok := f.(*http2.GoAwayFrame); ok {
			a.goAway = &g.ErrCode
			if g.ErrCode != http2.ErrCodeNo {
				return a
			}
			continue
		}
		if f.Header().StreamID != id {
			continue
		}
		switch f := f.(type) {
		case *http2.RSTStreamFrame:
			a.reset = &f.ErrCode
			return a
		case *http2.DataFrame:
			a.body += string(f.Data())
			a.mark("D", f.StreamEnded())
			if f.StreamEnded() {
				return a
			}
		case *http2.MetaHeadersFrame:
			fields := map[string]string{}
			for _, h := range f.RegularFields() {
				fields[h.Name] = h.Value
			}
			switch status := f.PseudoValue("status"); {
			case strings.HasPrefix(status, "1"):
				a.interim = append(a.interim, status)
				continue
			case status == "":
				a.trailer = fields
			default:
				a.status, a.header = status, fields
			}
			a.mark("H", f.StreamEnded())
			if f.StreamEnded() {
				return a
			}
		}
	}
}

func (a *answer) mark(frame string, end bool) {
	if end {
		frame = strings.ToLower(frame)
	}
	a.frames += frame
}

// ok asks for / and wants 200: the connection still works.
func (c *rawClient) ok(id uint32) {
	c.t.Helper()
	c.headers(id, true, ask("GET", "/")...)
	if a := c.answer(id); a.status != "200" {
		c.t.Errorf("the connection serves no more: %v", a)
	}
}
