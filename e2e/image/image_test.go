package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"gatehouse/e2e/rig"
)

// The image is the same each time, and another program finds it valid.
func TestImage(t *testing.T) {
	t.Chdir(rig.Root())
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first.tar"), filepath.Join(dir, "second.tar")
	for _, file := range []string{first, second} {
		if err := write(file, "gatehouse:test", []string{"amd64"}); err != nil {
			t.Fatal(err)
		}
	}
	a, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(second)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Error("built twice, it is not the same")
	}
	layout := filepath.Join(dir, "layout")
	if err := extract(bytes.NewReader(a), layout); err != nil {
		t.Fatal(err)
	}

	crane := rig.Binary(t, "crane")
	registry := fmt.Sprintf("127.0.0.1:%d", rig.Port(t))
	p, err := rig.Start("registry", dir, nil, crane, "registry", "serve", "--address", registry)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", registry); err == nil {
			_ = c.Close()
			break
		}
	}
	name := registry + "/gatehouse:test"
	run := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(crane, append(args, "--insecure")...).CombinedOutput()
		if err != nil {
			t.Fatalf("crane %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	run("push", layout, name, "--index")
	run("validate", "--remote", name)
	var config struct {
		Architecture string
		Config       struct {
			User       string
			Entrypoint []string
		}
	}
	text := run("config", name, "--platform", "linux/amd64")
	if err := json.Unmarshal([]byte(text), &config); err != nil || config.Architecture != "amd64" || config.Config.User != user || config.Config.Entrypoint[0] != "/gatehouse" {
		t.Errorf("it says %s, %v", text, err)
	}
	export := filepath.Join(dir, "export.tar")
	run("export", name, export, "--platform", "linux/amd64")
	if err := runs(t.Context(), filepath.Join(dir, "root"), export, "amd64"); err != nil && runtime.GOARCH == "amd64" {
		t.Error(err)
	}
	text = list(t, export)
	if want := "etc etc/ssl etc/ssl/certs etc/ssl/certs/ca-certificates.crt gatehouse tmp"; text != want {
		t.Errorf("it holds %s, want %s", text, want)
	}
}

func TestRoots(t *testing.T) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(roots()) || bytes.Count(roots(), []byte("BEGIN CERTIFICATE")) < 80 {
		t.Error("these are no root certificates")
	}
}

// list is the names in a tar file.
func list(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	r := tar.NewReader(bytes.NewReader(text))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return strings.Join(names, " ")
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}
