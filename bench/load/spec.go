// Package load is the load generator: it sends one kind of work to one
// address, on one thread, and tells what came of it and what it cost the
// proxy. It judges only that answers are whole and successful.
package load

import (
	"fmt"
	"net/netip"
	"time"
)

// Kind is how requests are sent.
type Kind string

// The kinds.
const (
	H1        Kind = "h1"        // HTTP/1.1, keep-alive
	H2        Kind = "h2"        // HTTP/2 over TLS
	NewConn   Kind = "newconn"   // HTTP/1.1, a connection for each request
	Handshake Kind = "handshake" // a full TLS handshake and a request for each connection
	WebSocket Kind = "websocket" // messages echoed over established WebSockets
	Idle      Kind = "idle"      // connections held after one request each
)

// Spec says what to send. It is handed to the generator's process as JSON.
type Spec struct {
	Kind    Kind           `json:"kind"`
	Addr    netip.AddrPort `json:"addr"`
	TLS     bool           `json:"tls"`
	Conns   int            `json:"conns"`
	Streams int            `json:"streams"` // per connection; H2
	Method  string         `json:"method"`
	Path    string         `json:"path"`
	Host    string         `json:"host"`
	Hosts   int            `json:"hosts"` // 0, or: to each of Host with a number before it
	Body    int            `json:"body"`  // bytes of each request's body

	Warm   time.Duration `json:"warm"`
	Window time.Duration `json:"window"` // what is measured, after Warm
	Rate   int           `json:"rate"`   // requests per second; 0: as many as the connections carry

	Pids   []int `json:"pids"`   // the proxy's processes
	Origin int   `json:"origin"` // the origin's
}

// HostName is the i-th of Hosts.
func HostName(i int, host string) string { return fmt.Sprintf("h%05d.%s", i, host) }

// Result is what came of it.
type Result struct {
	Requests   int            `json:"requests"` // answered in the window
	Seconds    float64        `json:"seconds"`
	Errors     map[string]int `json:"errors,omitempty"` // by kind, in the window
	Failed     int            `json:"failed"`           // their sum
	First      string         `json:"first_error,omitempty"`
	Reconnects int            `json:"reconnects"` // after answers that said so
	P50        time.Duration  `json:"p50_ns"`
	P99        time.Duration  `json:"p99_ns"`
	CPU        float64        `json:"cpu_s"` // of the proxy, in the window
	OriginCPU  float64        `json:"origin_cpu_s"`
	LoadCPU    float64        `json:"load_cpu_s"`
	PSS        int64          `json:"pss"` // of the proxy, at the window's end
	PSSBefore  int64          `json:"pss_before,omitempty"`
	Open       int            `json:"open,omitempty"`  // idle connections opened
	Alive      int            `json:"alive,omitempty"` // of them, those that still answered at the end
}
