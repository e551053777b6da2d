package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"gatehouse/bench/load"
	"gatehouse/bench/peer"
	"gatehouse/bench/report"
)

const (
	manyChanges    = 1_000
	quickChanges   = 3
	changePatience = 10 * time.Second
	// pollEvery is how exactly a change's effect is known.
	pollEvery = 500 * time.Microsecond
)

// changesWork changes a routing file again and again while requests come, and
// measures how long each takes to be in force.
func changesWork() work {
	w := work{Work: report.Work{
		Name: "changes", Title: "1,000 changes of a routing file, one after the other, under 2,000 requests/s on 64 connections",
		Columns: []report.Column{
			{Key: "changes", Title: "changes", Plain: true},
			{Key: "errors", Title: "failed requests", Plain: true},
			{Key: "requests", Title: "requests", Plain: true},
			{Key: "effect", Title: "to effect, median ms"},
			{Key: "effect99", Title: "p99 ms"},
			{Key: "most", Title: "longest ms"},
			{Key: "p99", Title: "requests' p99 µs"},
			{Key: "cpu", Title: "CPU s per 100,000"},
			{Key: "pss", Title: "memory MiB"},
		},
		Bars: []report.Bar{{Value: "errors", Times: 0}, {Value: "effect", Times: 50}, {Value: "most", Times: 50}},
	}, spec: load.Spec{Kind: load.H1, Conns: 64, Rate: 2_000}, once: true}
	w.contenders = func(peers []peer.Peer) []contender {
		var rows []contender
		for _, c := range eachPeer(peers) {
			if c.name == "gatehouse" || c.name == "traefik" {
				c.setup = func(s *peer.Setup) { s.Changing = true }
				rows = append(rows, c)
			}
		}
		return rows
	}
	w.measure = measureChanges
	return w
}

func measureChanges(b *bench, r *peer.Running, spec load.Spec) (map[string]float64, error) {
	changes := manyChanges
	if b.o.quick {
		changes = quickChanges
	}
	// The window ends with the last change.
	ctx, end := context.WithCancel(b.ctx)
	defer end()
	spec.Window = time.Duration(changes) * changePatience
	type outcome struct {
		load.Result
		error
	}
	done := make(chan outcome, 1)
	go func() {
		result, err := b.loadUntil(ctx, spec)
		done <- outcome{result, err}
	}()
	sleep(b.ctx, spec.Warm+100*time.Millisecond)
	effects, wrong := change(b.ctx, r, changes)
	end()
	o := <-done
	if o.error != nil {
		return nil, errors.Join(o.error, wrong)
	}
	if o.First != "" {
		wrong = errors.Join(wrong, fmt.Errorf("%d failed %v: %s", o.Failed, o.Errors, o.First))
	}
	values := perRequest(o.Result)
	values["changes"] = float64(len(effects))
	if n := len(effects); n > 0 {
		slices.Sort(effects)
		values["effect"], values["effect99"], values["most"] = milli(effects[n/2]), milli(effects[n*99/100]), milli(effects[n-1])
	}
	return values, wrong
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// change makes n changes and tells how long each took to be in force.
func change(ctx context.Context, r *peer.Running, n int) ([]time.Duration, error) {
	client := &http.Client{Timeout: changePatience}
	defer client.CloseIdleConnections()
	var effects []time.Duration
	for i := range n {
		path := fmt.Sprintf("/change-%d", i)
		start := time.Now()
		if err := r.Change(path); err != nil {
			return effects, err
		}
		for {
			status, err := ask(ctx, client, r, path)
			if err != nil {
				return effects, fmt.Errorf("change %d: %w", i+1, err)
			}
			if status == http.StatusOK {
				break
			}
			if status != http.StatusNotFound || time.Since(start) > changePatience {
				return effects, fmt.Errorf("change %d: status %d after %s", i+1, status, time.Since(start).Round(time.Millisecond))
			}
			time.Sleep(pollEvery)
		}
		effects = append(effects, time.Since(start))
	}
	return effects, nil
}

func ask(ctx context.Context, client *http.Client, r *peer.Running, path string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.HTTP.String()+path, nil)
	if err != nil {
		return 0, err
	}
	req.Host = r.Host
	res, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}
