package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"gatehouse/e2e/rig"
	"gatehouse/e2e/rig/kube"
)

// outside is an address of this machine that endpoints may have.
func outside(t *testing.T) string {
	t.Helper()
	list, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	t.Fatal("this machine has no address but loopback, which EndpointSlices may not have")
	return ""
}

// ingressWorld creates n Ingresses with a Service and two slices each.
func ingressWorld(t *testing.T, k *kube.Kube, space, address string, port, n int) {
	t.Helper()
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(24)
	for i := range n {
		g.Go(func() error {
			name := fmt.Sprintf("app%d", i)
			meta := map[string]any{"name": name, "namespace": space}
			err := k.Do(ctx, http.MethodPost, "/api/v1/namespaces/"+space+"/services", map[string]any{"metadata": meta, "spec": map[string]any{"clusterIP": "None", "ports": []any{map[string]any{"port": 80}}}}, nil)
			for j := range 2 {
				if err == nil {
					err = k.Do(ctx, http.MethodPost, "/apis/discovery.k8s.io/v1/namespaces/"+space+"/endpointslices", slice(space, name, j, address, port), nil)
				}
			}
			if err != nil {
				return err
			}
			return k.Do(ctx, http.MethodPost, "/apis/networking.k8s.io/v1/namespaces/"+space+"/ingresses", map[string]any{"metadata": meta, "spec": map[string]any{"rules": []any{map[string]any{
				"host": name + ".example.com", "http": map[string]any{"paths": []any{map[string]any{"path": "/", "pathType": "Prefix", "backend": map[string]any{
					"service": map[string]any{"name": name, "port": map[string]any{"number": 80}}}}}}}}}}, nil)
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

func slice(space, service string, j int, address string, port int) map[string]any {
	return map[string]any{
		"metadata":    map[string]any{"name": fmt.Sprintf("%s-%d", service, j), "namespace": space, "labels": map[string]any{"kubernetes.io/service-name": service}},
		"addressType": "IPv4", "ports": []any{map[string]any{"port": port}}, "endpoints": []any{map[string]any{"addresses": []string{address}}},
	}
}

// TestIngresses serves what a real API server holds and measures how soon.
// GATEHOUSE_TEST_INGRESSES=5000 measures at that size.
func TestIngresses(t *testing.T) {
	n := 20
	if s := os.Getenv("GATEHOUSE_TEST_INGRESSES"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	k := kube.Start(t)
	space, address := k.Namespace(t), outside(t)
	var ports []int
	for i := range 2 {
		l, err := net.Listen("tcp", address+":0")
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, i) })}
		go func() { _ = s.Serve(l) }()
		t.Cleanup(func() { _ = s.Close() })
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	ingressWorld(t, k, space, address, ports[0], n)

	web, dir := rig.Port(t), t.TempDir()
	file := filepath.Join(dir, "gatehouse.toml")
	text := fmt.Sprintf("[entryPoints.http]\naddress = \"127.0.0.1:%d\"\n[store]\ndirectory = %q\n[kubernetes]\n", web, dir)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", k.Kubeconfig)
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	ctx, stop := context.WithCancel(t.Context())
	var log lockedBuffer
	ended := make(chan error, 1)
	begin := time.Now()
	go func() { ended <- run(ctx, []string{"-c", file}, io.Discard, &log) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(log.String())
		}
	})
	until := func(app int, want string) {
		t.Helper()
		got := ""
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", web), nil)
			req.Host = fmt.Sprintf("app%d.example.com", app)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				got = err.Error()
				continue
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if got = string(body); got == want {
				return
			}
		}
		t.Fatalf("app%d says %q, want %s", app, got, want)
	}
	until(n-1, "0")
	t.Logf("%d Ingresses: first served %v after the start", n, time.Since(begin).Round(time.Millisecond))
	var took []time.Duration
	for i := range min(n, 40) {
		start := time.Now()
		for j := range 2 {
			err := k.Do(ctx, http.MethodPut, fmt.Sprintf("/apis/discovery.k8s.io/v1/namespaces/%s/endpointslices/app%d-%d", space, i, j), slice(space, fmt.Sprintf("app%d", i), j, address, ports[1]), nil)
			if err != nil {
				t.Fatal(err)
			}
		}
		until(i, "1")
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	t.Logf("change of endpoints to traffic: median %v, worst of %d %v", took[len(took)/2], len(took), took[len(took)-1])
	if worst := took[len(took)-1]; worst > 5*time.Second {
		t.Errorf("a change took %v", worst)
	}
	if n > 100 {
		before := processCPU(t)
		time.Sleep(10 * time.Second)
		status, _ := os.ReadFile("/proc/self/status")
		for line := range strings.Lines(string(status)) {
			if strings.HasPrefix(line, "VmRSS") || strings.HasPrefix(line, "VmHWM") {
				t.Log(strings.TrimSpace(line), "(the test's own part included)")
			}
		}
		t.Logf("at rest: %v CPU in 10 s", processCPU(t)-before)
	}
}

func processCPU(t *testing.T) time.Duration {
	t.Helper()
	text, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text)[strings.LastIndexByte(string(text), ')')+2:])
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}
