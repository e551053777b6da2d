package main

import (
	"fmt"

	"golang.org/x/sys/unix"

	"gatehouse/bench/load"
	"gatehouse/bench/peer"
	"gatehouse/bench/report"
)

const (
	someIdle = 5_000
	manyIdle = 100_000
)

func idleColumns() []report.Column {
	return []report.Column{
		{Key: "kib", Title: "KiB a connection"},
		{Key: "requests", Title: "connections", Plain: true},
		{Key: "alive", Title: "held", Plain: true},
		{Key: "errors", Title: "errors", Plain: true},
		{Key: "before", Title: "memory MiB before"},
		{Key: "pss", Title: "after"},
	}
}

// idleWork holds connections that have had one answer.
func idleWork(name, title string, tls bool, kib float64) work {
	return work{
		Work: report.Work{Name: name, Title: title, Columns: idleColumns(), Bars: []report.Bar{{Value: "kib", Times: kib}}},
		spec: load.Spec{Kind: load.Idle, Conns: someIdle, TLS: tls}, measure: measureIdle,
	}
}

// idleManyWork holds as many as the bar asks for, or as descriptors allow.
// Peers on net/http would need gigabytes: they are left out.
func idleManyWork() work {
	conns := min(manyIdle, descriptors()*3/4)
	w := idleWork("idle-many", fmt.Sprintf("%d idle keep-alive connections, plain", conns), false, 8)
	w.Bars = append(w.Bars, report.Bar{Value: "lost", Times: 0})
	w.Columns = append(w.Columns, report.Column{Key: "lost", Title: "lost", Plain: true})
	w.spec.Conns, w.once = conns, true
	w.contenders = func(peers []peer.Peer) []contender {
		var rows []contender
		for _, c := range eachPeer(peers) {
			if c.name != "caddy" && c.name != "traefik" {
				rows = append(rows, c)
			}
		}
		return rows
	}
	return w
}

// descriptors that a process may open, once raiseDescriptors has been called.
func descriptors() int {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
		return 1024
	}
	return int(l.Cur)
}

func measureIdle(b *bench, _ *peer.Running, spec load.Spec) (map[string]float64, error) {
	r, err := b.load(spec)
	if err != nil {
		return nil, err
	}
	if r.First != "" {
		err = fmt.Errorf("%d failed %v: %s", r.Failed, r.Errors, r.First)
	}
	return map[string]float64{
		"kib": float64(r.PSS-r.PSSBefore) / 1024 / float64(max(r.Open, 1)), "requests": float64(r.Open), "alive": float64(r.Alive),
		"lost": float64(spec.Conns - r.Alive), "errors": float64(r.Failed),
		"before": float64(r.PSSBefore) / (1 << 20), "pss": float64(r.PSS) / (1 << 20),
	}, err
}
