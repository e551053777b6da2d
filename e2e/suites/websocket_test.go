package suites

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/http2"
)

// echoSocket gives every message back, and ends with a word of its own.
func echoSocket(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols: []string{"echo"}, CompressionMode: websocket.CompressionContextTakeover, InsecureSkipVerify: true,
	})
	if err != nil {
		return
	}
	defer c.CloseNow()
	c.SetReadLimit(8 << 20)
	for {
		kind, message, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if string(message) == "bye" {
			c.Close(4001, "as you wish")
			return
		}
		if err := c.Write(r.Context(), kind, message); err != nil {
			return
		}
	}
}

// TestWebSocket goes through HTTP/1.1 and HTTP/2, plain and by TLS: messages of all sizes,
// fragments, compression, pings, the sub-protocol, and the origin's reason for
// closing.
func TestWebSocket(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(echoSocket))
	t.Cleanup(origin.Close)
	for _, middlewares := range []string{"", chain} {
		r := startChained(t, "", middlewares, map[string]string{"/": origin.URL})
		sockets(t, r, middlewares != "")
	}
}

func sockets(t *testing.T, r *router, chained bool) {
	for name, way := range map[string]struct {
		url    string
		client *http.Client
	}{
		"plain":  {"ws://" + r.http, r.client(t, true, false)},
		"TLS":    {"wss://" + r.https, r.client(t, true, false)},
		"HTTP/2": {"wss://" + r.https, r.extended(t)},
		"by h2c": {"ws://" + r.http, r.extended(t)},
	} {
		for _, mode := range []websocket.CompressionMode{websocket.CompressionDisabled, websocket.CompressionContextTakeover} {
			t.Run(fmt.Sprintf("%s compression %d handlers %t", name, mode, chained), func(t *testing.T) {
				t.Parallel()
				conversation(t, way.client, way.url, mode)
			})
		}
	}
}

func conversation(t *testing.T, client *http.Client, url string, mode websocket.CompressionMode) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, resp, err := websocket.Dial(ctx, url+"/chat", &websocket.DialOptions{
		HTTPClient: client, Subprotocols: []string{"other", "echo"}, CompressionMode: mode,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	c.SetReadLimit(8 << 20)
	if c.Subprotocol() != "echo" || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("%d, sub-protocol %q", resp.StatusCode, c.Subprotocol())
	}
	for _, size := range []int{0, 1, 125, 126, 65535, 65536, 3 << 20} {
		message := make([]byte, size)
		rand.Read(message)
		if err := c.Write(ctx, websocket.MessageBinary, message); err != nil {
			t.Fatal(err)
		}
		kind, got, err := c.Read(ctx)
		if err != nil || kind != websocket.MessageBinary || !bytes.Equal(got, message) {
			t.Fatalf("message of %d bytes: %d bytes back, %v", size, len(got), err)
		}
	}
	parts, err := c.Writer(ctx, websocket.MessageText)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		fmt.Fprint(parts, strings.Repeat("part ", 1000))
	}
	if err := parts.Close(); err != nil {
		t.Fatal(err)
	}
	if _, got, err := c.Read(ctx); err != nil || len(got) != 50000 {
		t.Errorf("fragments: %d bytes back, %v", len(got), err)
	}
	pong := make(chan error, 1)
	go func() { pong <- c.Ping(ctx) }()
	c.Write(ctx, websocket.MessageText, []byte("bye"))
	_, _, err = c.Read(ctx)
	if <-pong; websocket.CloseStatus(err) != 4001 || !strings.Contains(err.Error(), "as you wish") {
		t.Errorf("the end: %v", err)
	}
}

// TestWebSocketRefused: an origin that does not switch is heard.
func TestWebSocketRefused(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "not today", http.StatusForbidden)
	}))
	defer origin.Close()
	r := start(t, "", map[string]string{"/": origin.URL})
	for _, client := range []*http.Client{r.client(t, true, false), r.extended(t)} {
		_, resp, err := websocket.Dial(t.Context(), "wss://"+r.https, &websocket.DialOptions{HTTPClient: client})
		if err == nil || resp == nil || resp.StatusCode != http.StatusForbidden {
			t.Errorf("%v, %v", resp, err)
		}
	}
}

// extended gives a client that makes upgrades to WebSocket extended CONNECTs of
// HTTP/2 (RFC 8441): the WebSocket library knows the former only.
func (r *router) extended(t *testing.T) *http.Client {
	tr := &http2.Transport{AllowHTTP: true, TLSClientConfig: r.tls()}
	tr.DialTLSContext = func(ctx context.Context, network, addr string, config *tls.Config) (net.Conn, error) {
		if addr == r.http {
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
		return (&tls.Dialer{Config: config}).DialContext(ctx, network, addr)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: extendedConnect{tr}}
}

type extendedConnect struct{ *http2.Transport }

// RoundTrip is that of http.RoundTripper.
func (x extendedConnect) RoundTrip(r *http.Request) (*http.Response, error) {
	up, feed := io.Pipe()
	out := r.Clone(r.Context())
	out.Method, out.Body, out.ContentLength = http.MethodConnect, up, -1
	for _, name := range []string{"Connection", "Upgrade", "Sec-Websocket-Key"} {
		out.Header.Del(name)
	}
	out.Header[":protocol"] = []string{"websocket"}
	resp, err := x.Transport.RoundTrip(out)
	if err != nil || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	sum := sha1.Sum([]byte(r.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	resp.StatusCode = http.StatusSwitchingProtocols
	resp.Header.Set("Connection", "Upgrade")
	resp.Header.Set("Upgrade", "websocket")
	resp.Header.Set("Sec-Websocket-Accept", base64.StdEncoding.EncodeToString(sum[:]))
	resp.Body = &bothWays{resp.Body, feed}
	return resp, nil
}

// bothWays is a stream of HTTP/2: an answer that is read, a request's body that
// is written.
type bothWays struct {
	io.ReadCloser
	*io.PipeWriter
}

// Close ends both ways.
func (b *bothWays) Close() error {
	b.PipeWriter.Close()
	return b.ReadCloser.Close()
}
