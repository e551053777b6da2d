package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

const healthHelp = `gatehouse healthcheck [flags]

Asks the running gatehouse with the same settings for /ping. Exit status 0: it answers; 1: it does not.

`

func healthCheck(ctx context.Context, args []string, out, errOut io.Writer) error {
	loaded, _, err := load(healthHelp, args, errOut)
	if err != nil {
		return err
	}
	s := loaded.Static
	if s.Ping == nil {
		return fmt.Errorf("/ping is not served: add [ping] (or [web])")
	}
	applyBind(s)
	entry := s.EntryPoints[s.Ping.EntryPoint]
	host, port, err := net.SplitHostPort(entry.Address)
	if err != nil {
		return fmt.Errorf("read address of entry point %s: %w", s.Ping.EntryPoint, err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	url := "http://" + net.JoinHostPort(host, port) + "/ping"
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ask %s: it says %s", url, resp.Status)
	}
	fmt.Fprintf(out, "OK: %s\n", url)
	return nil
}
