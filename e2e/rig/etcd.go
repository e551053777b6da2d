package rig

import (
	"context"
	"fmt"
	"path/filepath"
	"time"
)

// Etcd is one etcd 3.5 server that answers the v2 and the v3 API.
type Etcd struct {
	*Process
	dir  string
	port int
	peer int
}

// NewEtcd starts etcd with its data under dir and waits until it answers.
func NewEtcd(ctx context.Context, dir string) (*Etcd, error) {
	e := &Etcd{dir: dir}
	for _, p := range []*int{&e.port, &e.peer} {
		port, err := FreePort()
		if err != nil {
			return nil, err
		}
		*p = port
	}
	return e, e.Start(ctx)
}

// Endpoint is its address as host:port; both APIs answer there.
func (e *Etcd) Endpoint() string { return fmt.Sprintf("127.0.0.1:%d", e.port) }

// URL is Endpoint with its scheme.
func (e *Etcd) URL() string { return "http://" + e.Endpoint() }

// Start starts it again, on the same port with the same data.
func (e *Etcd) Start(ctx context.Context) error {
	path, err := Find("etcd")
	if err != nil {
		return err
	}
	peer := fmt.Sprintf("http://127.0.0.1:%d", e.peer)
	e.Process, err = Start("etcd", e.dir, []string{"ETCD_UNSUPPORTED_ARCH=arm64"}, path,
		"--name=one", "--enable-v2=true", "--data-dir="+filepath.Join(e.dir, "etcd.data"),
		"--listen-client-urls="+e.URL(), "--advertise-client-urls="+e.URL(),
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=one="+peer,
		"--log-level=warn", "--unsafe-no-fsync")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return e.WaitFor(ctx, e.healthy)
}

func (e *Etcd) healthy(ctx context.Context) error { return Answers(ctx, e.URL()+"/health") }
