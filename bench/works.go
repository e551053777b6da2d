package main

import (
	"path/filepath"
	"time"

	"gatehouse/bench/load"
	"gatehouse/bench/origin"
	"gatehouse/bench/peer"
	"gatehouse/bench/report"
)

const (
	host       = "bench.test"
	manyRoutes = 10_000
)

// contender is one row of a work's table.
type contender struct {
	name  string
	peer  peer.Peer
	setup func(*peer.Setup) // nil: as it is
	spec  func(*load.Spec)  // nil: the work's
}

// work is one thing to measure. What is common to all is filled in by run.
type work struct {
	report.Work
	spec load.Spec
	// contenders makes the rows, ours first; nil: one for each peer.
	contenders func(peers []peer.Peer) []contender
	// once: one round is enough, or as much as time allows.
	once bool
	// measure runs the load against a proxy that answers; nil: the standard.
	measure func(*bench, *peer.Running, load.Spec) (map[string]float64, error)
}

// columns of a work that is requests.
func columns(more ...report.Column) []report.Column {
	return append([]report.Column{
		{Key: "cpu", Title: "CPU s per 100,000"},
		{Key: "rps", Title: "requests/s"},
		{Key: "p50", Title: "p50 µs"},
		{Key: "p99", Title: "p99 µs"},
		{Key: "errors", Title: "errors", Plain: true},
		{Key: "pss", Title: "memory MiB"},
		{Key: "busy", Title: "proxy busy %", Plain: true},
		{Key: "ends", Title: "load, origin busy %", Plain: true},
	}, more...)
}

func bars(value string, against ...any) []report.Bar {
	var list []report.Bar
	for i := 0; i < len(against); i += 2 {
		list = append(list, report.Bar{Value: value, Against: against[i].(string), Times: against[i+1].(float64)})
	}
	return list
}

// works is what can be measured, in the order in which it is.
func works() []work {
	requests := func(name, title string, spec load.Spec, list []report.Bar) work {
		return work{Work: report.Work{Name: name, Title: title, Columns: columns(), Bars: list}, spec: spec}
	}
	return []work{
		requests("h1", "HTTP/1.1 plain, 64 connections, 1 KB", load.Spec{Kind: load.H1, Conns: 64},
			bars("cpu", "nginx", 1.0, "haproxy", 0.9, "traefik", 0.4, "caddy", 0.3)),
		requests("h1-256", "HTTP/1.1 plain, 256 connections, 1 KB", load.Spec{Kind: load.H1, Conns: 256}, nil),
		requests("tls", "HTTP/1.1 over TLS 1.3, 64 connections, 1 KB", load.Spec{Kind: load.H1, TLS: true, Conns: 64},
			bars("cpu", "nginx", 1.0, "haproxy", 1.0, "traefik", 0.45)),
		requests("h2", "HTTP/2 over TLS 1.3, 64 connections with 4 streams, 1 KB", load.Spec{Kind: load.H2, TLS: true, Conns: 64, Streams: 4},
			bars("cpu", "nginx", 1.0, "haproxy", 1.1, "traefik", 0.25)),
		chainWork(),
		requests("rate", "HTTP/1.1 plain at 10,000 requests/s, 64 connections, 1 KB", load.Spec{Kind: load.H1, Conns: 64, Rate: 10_000},
			bars("p99", "nginx", 1.5)),
		requests("handshake", "a full TLS 1.3 handshake (X25519, ECDSA P-256) and a request for each connection, 32 at a time",
			load.Spec{Kind: load.Handshake, TLS: true, Conns: 32}, bars("cpu", "nginx", 1.0, "haproxy", 1.0, "traefik", 1.0, "caddy", 1.0)),
		routesWork(),
		requests("big", "HTTP/1.1 plain, 16 connections, 1 MB answers", load.Spec{Kind: load.H1, Conns: 16, Path: origin.Big},
			bars("cpu", "haproxy", 1.1)),
		requests("post", "HTTP/1.1 plain, 64 connections, 4 KB sent, 1 KB back", load.Spec{Kind: load.H1, Conns: 64, Method: "POST", Body: 4 << 10}, nil),
		requests("newconn", "HTTP/1.1 plain, a connection for each request, 64 at a time, 1 KB", load.Spec{Kind: load.NewConn, Conns: 64}, nil),
		requests("websocket", "messages of 100 bytes echoed over 64 WebSockets", load.Spec{Kind: load.WebSocket, Conns: 64, Path: origin.Echo}, nil),
		idleWork("idle", "5,000 idle keep-alive connections, plain", false, 8),
		idleWork("idle-tls", "5,000 idle keep-alive connections, TLS 1.3", true, 25),
		idleManyWork(),
		changesWork(),
	}
}

// chainWork compares ours with ours: what three middlewares cost.
func chainWork() work {
	const name = "gatehouse, three middlewares"
	w := work{Work: report.Work{
		Name: "chain", Title: "through headers, stripPrefix and access log (to a file), as h1; Gatehouse against itself", Columns: columns(),
		Bars: []report.Bar{{Value: "cpu", Who: name, Against: "gatehouse", Times: 1.35}},
	}, spec: load.Spec{Kind: load.H1, Conns: 64, Path: "/app/"}}
	w.contenders = func(peers []peer.Peer) []contender {
		return []contender{
			{name: peers[0].Name, peer: peers[0]},
			{name: name, peer: peers[0], setup: func(s *peer.Setup) { s.Chain = true }},
		}
	}
	return w
}

// routesWork asks for every one of many hosts.
func routesWork() work {
	const single = "gatehouse, one route"
	w := work{Work: report.Work{
		Name: "routes", Title: "10,000 host routes, requests to all of them in turn, as h1",
		Columns: columns(report.Column{Key: "load", Title: "loading ms more than one route"}),
		Bars:    append(bars("cpu", single, 1.05), report.Bar{Value: "load", Times: 100}),
	}, spec: load.Spec{Kind: load.H1, Conns: 64, Hosts: manyRoutes}}
	w.contenders = func(peers []peer.Peer) []contender {
		rows := eachPeer(peers)
		for i := range rows {
			rows[i].setup = func(s *peer.Setup) { s.Hosts = manyRoutes }
		}
		return append(rows, contender{name: single, peer: peers[0], spec: func(s *load.Spec) { s.Hosts = 0 }})
	}
	w.measure = func(b *bench, r *peer.Running, s load.Spec) (map[string]float64, error) {
		values, err := b.requests(r, s)
		if err != nil || r.Hosts == 0 {
			return values, err
		}
		alone := r.Setup
		alone.Hosts, alone.Dir = 0, filepath.Join(alone.Dir, "alone")
		r.Stop()
		one, err := peer.Start(b.ctx, r.Peer, alone)
		if err != nil {
			return values, err
		}
		one.Stop()
		values["load"] = milli(r.Loading - one.Loading)
		return values, nil
	}
	return w
}

// standard is what all works share.
func standard(s load.Spec, o options) load.Spec {
	if s.Method == "" {
		s.Method = "GET"
	}
	if s.Path == "" {
		s.Path = origin.Small
	}
	s.Host, s.Warm, s.Window = host, o.warm, o.window
	return s
}

// perRequest turns a result into the columns.
func perRequest(r load.Result) map[string]float64 {
	n := float64(max(r.Requests, 1))
	return map[string]float64{
		"cpu": r.CPU / n * 1e5, "rps": float64(r.Requests) / r.Seconds,
		"p50": micro(r.P50), "p99": micro(r.P99), "errors": float64(r.Failed),
		"pss": float64(r.PSS) / (1 << 20), "busy": 100 * r.CPU / r.Seconds,
		"ends": 100 * max(r.LoadCPU, r.OriginCPU) / r.Seconds, "requests": float64(r.Requests),
	}
}

func micro(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func milli(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
