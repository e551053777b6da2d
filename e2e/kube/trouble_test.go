package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"gatehouse/e2e/rig"
	"gatehouse/e2e/rig/kube"
)

// Sizes of the world in which the API server gives trouble: 10,000 objects.
const (
	manyIngresses = 5000
	manyServices  = 2500 // with one EndpointSlice each
)

// trouble is one Gatehouse, its way to the API server, and 10,000 objects. Every
// Service has an address of its own, at all of which this process answers with
// the address that was asked.
type trouble struct {
	*kube.Kube
	line  *line
	edge  *rig.Process
	entry string // of Gatehouse, host:port
	admin string // its API, host:port
	port  int    // of the backends
	etcd  *clientv3.Client
	dir   string
	where [manyServices]atomic.Int32 // address of each Service: see address
}

// testTrouble is what goes wrong between a replica and the API server while
// traffic flows, one thing after the other.
func testTrouble(t *testing.T, k *kube.Kube) {
	w := newTrouble(t, k)
	l := w.ask(t)
	for _, step := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"kinds that are not there, or may not be read", func(t *testing.T) { w.missingKinds(t); l.begin() }},
		{"history is lost", w.historyLost},
		{"a watch goes silent", w.silentWatch},
		{"rights are taken and given back", w.rightsTaken},
		{"one EndpointSlice never rests", func(t *testing.T) {
			w.hotObject(t, func(i int) (string, any) {
				return "/apis/discovery.k8s.io/v1/namespaces/many/endpointslices/s10",
					map[string]any{"endpoints": []any{map[string]any{"addresses": []string{"10.244.60." + strconv.Itoa(1+i%200)}}}}
			})
		}},
		{"one Ingress never rests", func(t *testing.T) {
			w.hotObject(t, func(i int) (string, any) {
				return "/apis/networking.k8s.io/v1/namespaces/many/ingresses/i11",
					map[string]any{"metadata": map[string]any{"annotations": map[string]any{"ingress.kubernetes.io/custom-request-headers": "N:" + strconv.Itoa(i)}}}
			})
		}},
	} {
		if !t.Run(step.name, step.do) {
			t.Fatalf("nothing further is tried after: %s", step.name)
		}
		l.judge(t, step.name)
	}
}

func newTrouble(t *testing.T, k *kube.Kube) *trouble {
	t.Helper()
	if !kube.InNetwork() {
		t.Fatal("this needs a network of its own: root, on Linux")
	}
	w := &trouble{Kube: k, line: newLine(t, kube.ServiceIP+":443"), dir: t.TempDir()}
	t.Cleanup(func() {
		if w.edge == nil {
			return
		}
		w.edge.Kill()
		if text, _ := os.ReadFile(w.edge.Log); t.Failed() {
			t.Logf("Gatehouse:\n%s", text[max(0, len(text)-6000):])
		}
	})
	w.serve(t)
	var err error
	if w.etcd, err = clientv3.New(clientv3.Config{Endpoints: []string{k.Etcd.Endpoint()}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.etcd.Close() })
	k.Apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: many}\n")
	w.seed(t)
	return w
}

// serve answers at all addresses of Services.
func (w *trouble) serve(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	w.port = l.Addr().(*net.TCPAddr).Port
	s := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(rw, r.Context().Value(http.LocalAddrContextKey).(net.Addr).(*net.TCPAddr).IP.String())
	})}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
}

// address is the one of a Service: it has several, at one of which it stands.
func (w *trouble) address(service int) string {
	return fmt.Sprintf("10.244.%d.%d", 16+16*int(w.where[service].Load())+service/250, 1+service%250)
}

func (w *trouble) slice(service int) map[string]any {
	name := fmt.Sprintf("s%d", service)
	return map[string]any{
		"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "metadata": map[string]any{
			"name": name, "namespace": "many", "uid": "0-" + name, "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z", "labels": map[string]any{"kubernetes.io/service-name": name},
		},
		"ports": []any{map[string]any{"name": "", "port": w.port, "protocol": "TCP"}}, "endpoints": []any{map[string]any{"addresses": []string{w.address(service)}}},
	}
}

// seed writes the objects where the API server keeps them: through it that
// would take longer than all the rest.
func (w *trouble) seed(t *testing.T) {
	t.Helper()
	var ops []clientv3.Op
	put := func(key string, object map[string]any) {
		text, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		ops = append(ops, clientv3.OpPut("/registry/"+key, string(text)))
	}
	meta := func(name string) map[string]any {
		return map[string]any{"name": name, "namespace": "many", "uid": "1-" + name, "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
	}
	for i := range manyIngresses {
		name := fmt.Sprintf("i%d", i)
		put("ingress/many/"+name, map[string]any{"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta(name), "spec": map[string]any{
			"ingressClassName": "gatehouse", "rules": []any{map[string]any{"host": name + ".test", "http": map[string]any{"paths": []any{map[string]any{
				"path": "/", "pathType": "Prefix", "backend": map[string]any{"service": map[string]any{"name": fmt.Sprintf("s%d", i%manyServices), "port": map[string]any{"number": 80}}}}}}}}}})
	}
	for i := range manyServices {
		name := fmt.Sprintf("s%d", i)
		put("services/specs/many/"+name, map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": meta(name), "spec": map[string]any{
			"clusterIP": "None", "clusterIPs": []string{"None"}, "type": "ClusterIP", "ports": []any{map[string]any{"port": 80, "targetPort": 80, "protocol": "TCP"}}}})
		put("endpointslices/many/"+name, w.slice(i))
	}
	began := time.Now()
	for batch := range slices.Chunk(ops, 100) {
		if _, err := w.etcd.Txn(t.Context()).Then(batch...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d objects written in %v", len(ops), time.Since(began).Round(time.Millisecond))
}

// start runs Gatehouse, which reaches the API server by the line.
func (w *trouble) start(t *testing.T) {
	t.Helper()
	dir := w.dir
	token, err := w.Token(t.Context(), "gatehouse", "gatehouse")
	if err != nil {
		t.Fatal(err)
	}
	w.entry, w.admin = fmt.Sprintf("127.0.0.1:%d", rig.Port(t)), fmt.Sprintf("127.0.0.1:%d", rig.Port(t))
	text := fmt.Sprintf("[entryPoints.http]\naddress = %q\n[web]\naddress = %q\n[store]\ndirectory = %q\n[kubernetes]\nendpoint = %q\ntoken = %q\ncertAuthFilePath = %q\n",
		w.entry, w.admin, dir, w.line.URL(), token, w.CA)
	file, binary := filepath.Join(dir, "gatehouse.toml"), theImages(t)["gatehouse:latest"].Files["/gatehouse"]
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// The rig's variable is not one of Gatehouse's.
	if w.edge, err = rig.Start("gatehouse", dir, nil, rig.Binary(t, "env"), "-u", "GATEHOUSE_RIG_NETWORK", binary, "-c", file); err != nil {
		t.Fatal(err)
	}
}

// get asks Gatehouse once: who answered, or the status.
func (w *trouble) get(ctx context.Context, c *http.Client, host string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.entry+"/", nil)
	if err != nil {
		return "", err
	}
	req.Host = host
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return resp.Status, err
	}
	return string(body), err
}

// until waits until a host is answered as wanted, and says how long it took.
func (w *trouble) until(t *testing.T, host, want string, most time.Duration) time.Duration {
	t.Helper()
	began, c := time.Now(), &http.Client{Timeout: 5 * time.Second}
	for {
		got, err := w.get(t.Context(), c, host)
		if err == nil && got == want {
			return time.Since(began)
		}
		if time.Since(began) > most {
			t.Fatalf("%s: %q, %v after %v, want %s", host, got, err, most, want)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// move lets a Service stand at its other address, and says how long it took
// until traffic went there.
func (w *trouble) move(t *testing.T, service int, most time.Duration) time.Duration {
	t.Helper()
	w.change(t, service)
	return w.until(t, fmt.Sprintf("i%d.test", service), w.address(service), most)
}

func (w *trouble) change(t *testing.T, service int) {
	t.Helper()
	w.where[service].Store(1 - w.where[service].Load())
	patch := map[string]any{"endpoints": w.slice(service)["endpoints"]}
	if err := w.Do(t.Context(), http.MethodPatch, fmt.Sprintf("/apis/discovery.k8s.io/v1/namespaces/many/endpointslices/s%d", service), patch, nil); err != nil {
		t.Fatal(err)
	}
}

// problem waits until Gatehouse shows a problem with all the words, or no more.
func (w *trouble) problem(t *testing.T, is bool, words ...string) {
	t.Helper()
	var text string
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get("http://" + w.admin + "/api/problems")
		if err != nil {
			continue
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		text = string(body)
		has := true
		for _, word := range words {
			has = has && strings.Contains(text, word)
		}
		if has == is {
			return
		}
	}
	t.Fatalf("problem with %q: want %v, in %.3000s", words, is, text)
}

// calls are what Gatehouse asked since then: verb and resource.
func (w *trouble) calls(t *testing.T, since time.Time) map[string]int {
	t.Helper()
	list, err := callsOf(w.Kube, "gatehouse")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]int{}
	for _, c := range list {
		if c.At.After(since) {
			all[c.Verb+" "+c.resource()]++
		}
	}
	return all
}

// missingKinds: at the start EndpointSlices and IngressClasses may not be read;
// that costs what depends on them, is told, and ends when they may.
func (w *trouble) missingKinds(t *testing.T) {
	rights, err := os.ReadFile(examples("cluster", "rbac.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	w.Apply(t, strings.NewReplacer("[ingressclasses]", "[nothing]", "[endpointslices]", "[nothing]").Replace(string(rights)))
	w.start(t)
	w.until(t, "i0.test", "503 Service Unavailable", 30*time.Second)
	w.problem(t, true, "endpointslices", "cannot be read", "ingressclasses")
	w.Apply(t, string(rights))
	took := w.until(t, "i0.test", w.address(0), 30*time.Second)
	t.Logf("EndpointSlices taken up %v after the right to read them was given", took.Round(10*time.Millisecond))
	w.problem(t, false, "cannot be read")
	w.until(t, fmt.Sprintf("i%d.test", manyIngresses-1), w.address((manyIngresses-1)%manyServices), 20*time.Second)
}

// historyLost: the replica was cut off while the objects changed and the API
// server forgot how. All is listed anew, and only what changed changes.
func (w *trouble) historyLost(t *testing.T) {
	var list struct {
		Metadata struct{ ResourceVersion string }
	}
	if err := w.Do(t.Context(), http.MethodGet, "/apis/networking.k8s.io/v1/ingresses?limit=1", nil, &list); err != nil {
		t.Fatal(err)
	}
	w.line.Cut()
	w.change(t, 7)
	w.Apply(t, "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: fresh, namespace: many}\nspec:\n  ingressClassName: gatehouse\n"+
		"  rules: [{host: fresh.test, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: s7, port: {number: 80}}}}]}}]\n")
	now, err := w.etcd.Get(t.Context(), "/registry/ingress/many/fresh")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.etcd.Compact(t.Context(), now.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	w.KillAPI()
	if err := w.StartAPI(t.Context()); err != nil {
		t.Fatal(err)
	}
	// That is what the replica will hear when it goes on where it was.
	var event struct {
		Type   string
		Object struct{ Code int }
	}
	err = w.Do(t.Context(), http.MethodGet, "/apis/networking.k8s.io/v1/ingresses?watch=1&timeoutSeconds=5&resourceVersion="+list.Metadata.ResourceVersion, nil, &event)
	if !kube.IsCode(err, http.StatusGone) && (err != nil || event.Type != "ERROR" || event.Object.Code != http.StatusGone) {
		t.Fatalf("a watch from %s: %+v, %v, want that it is gone", list.Metadata.ResourceVersion, event, err)
	}
	mended := time.Now()
	w.line.Mend()
	took := max(w.until(t, "i7.test", w.address(7), 20*time.Second), w.until(t, "fresh.test", w.address(7), 20*time.Second))
	calls := w.calls(t, mended)
	t.Logf("what changed was in force %v after the line was mended; asked since: %v", took.Round(10*time.Millisecond), calls)
	if took > 5*time.Second {
		t.Errorf("what changed was in force %v after the line was mended, want within 5 s", took)
	}
	// A list comes in pages of 500.
	if n := calls["list ingresses"]; n < manyIngresses/500 || n > 3*manyIngresses/500 {
		t.Errorf("%d pages of Ingresses were listed, want those of one list, or a little more", n)
	}
}

// silentWatch: nobody tells that the connection is dead, and for a while those
// that are tried after it are so too, as when the API server hangs.
func (w *trouble) silentWatch(t *testing.T) {
	const hangs = 8 * time.Second
	before := w.line.Count()
	w.line.Hush(t)
	w.change(t, 8)
	time.Sleep(hangs)
	tries := w.line.Count() - before
	w.line.Mend()
	took := w.until(t, "i8.test", w.address(8), 30*time.Second)
	t.Logf("silent for %v, in which %d connections were tried; a change was in force %v after that", hangs, tries, took.Round(10*time.Millisecond))
	if tries == 0 || tries > 20 {
		t.Errorf("%d connections were tried in %v, want some, and at most 20", tries, hangs)
	}
	if took > 15*time.Second {
		t.Errorf("a change was in force %v after the API server could be reached again, want within 15 s", took)
	}
}

// rightsTaken: what was read before is served and shown as old; what is not
// allowed is asked for ever more seldom; when it is allowed again all goes on.
func (w *trouble) rightsTaken(t *testing.T) {
	rights, err := os.ReadFile(examples("cluster", "rbac.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Kubectl(t.Context(), "", "delete", "clusterrolebinding", "gatehouse"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond) // it is known to the API server
	w.line.Cut()
	w.line.Mend()
	taken := time.Now()
	w.problem(t, true, "may not be read any more", "endpointslices", "ingresses")
	w.change(t, 9)
	time.Sleep(time.Until(taken.Add(4 * time.Second)))
	if n := w.calls(t, taken)["list endpointslices"]; n > 6 {
		t.Errorf("EndpointSlices were asked for %d times in 4 s", n)
	}
	w.Apply(t, string(rights))
	took := w.until(t, "i9.test", w.address(9), 30*time.Second)
	t.Logf("a change was in force %v after the rights were given back", took.Round(10*time.Millisecond))
	w.problem(t, false, "may not be read")
}

// hotObject: one object that changes a hundred times a second neither holds up
// the others nor takes more than a part of a core.
func (w *trouble) hotObject(t *testing.T, change func(i int) (path string, patch any)) {
	const span = 5 * time.Second
	ctx, stop := context.WithTimeout(t.Context(), span)
	defer stop()
	var hot sync.WaitGroup
	var changes atomic.Int64
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	hot.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			<-tick.C
			path, patch := change(i)
			if w.Do(ctx, http.MethodPatch, path, patch, nil) == nil {
				changes.Add(1)
			}
		}
	})
	before, began := w.cpu(t), time.Now()
	var took []time.Duration
	for i := 20; time.Since(began) < span-2*time.Second; i++ {
		took = append(took, w.move(t, i, 20*time.Second))
		time.Sleep(200 * time.Millisecond)
	}
	hot.Wait()
	share := float64(w.cpu(t)-before) / float64(time.Since(began))
	slices.Sort(took)
	t.Logf("%d changes of one object in %v took %.2f of a core; %d others were in force after %v in the median, %v at worst",
		changes.Load(), span, share, len(took), took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
	if worst := took[len(took)-1]; worst > 10*time.Second {
		t.Errorf("another change was in force after %v, want within 10 s", worst)
	}
	if share > 0.8 {
		t.Errorf("%.2f of a core, want at most 0.8", share)
	}
	if changes.Load() < 100 {
		t.Errorf("only %d changes were made", changes.Load())
	}
}

// cpu is what Gatehouse has used.
func (w *trouble) cpu(t *testing.T) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", w.edge.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text)[strings.LastIndexByte(string(text), ')')+2:])
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// asking is load that goes round all hosts: each must be answered by its
// Service, wherever that stands.
type asking struct {
	w          *trouble
	started    chan struct{}
	sent, bad  atomic.Int64
	mu         sync.Mutex
	first      []string
	done       sync.WaitGroup
	judged     int64
	judgedFrom time.Time
}

func (w *trouble) ask(t *testing.T) *asking {
	ctx, stop := context.WithCancel(t.Context())
	a := &asking{w: w, started: make(chan struct{})}
	t.Cleanup(func() { stop(); a.done.Wait() })
	for worker := range 4 {
		a.done.Go(func() {
			select {
			case <-a.started:
			case <-ctx.Done():
				return
			}
			tr := &http.Transport{MaxIdleConnsPerHost: 1}
			defer tr.CloseIdleConnections()
			c := &http.Client{Transport: tr, Timeout: 10 * time.Second}
			for i := worker; ctx.Err() == nil; i = (i + 4) % manyIngresses {
				a.one(c, i)
				time.Sleep(time.Millisecond)
			}
		})
	}
	return a
}

func (a *asking) one(c *http.Client, i int) {
	got, err := a.w.get(context.Background(), c, fmt.Sprintf("i%d.test", i))
	a.sent.Add(1)
	if err == nil && strings.HasPrefix(got, "10.244.") {
		return
	}
	a.bad.Add(1)
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.first) < 10 {
		a.first = append(a.first, fmt.Sprintf("%s i%d: %q, %v", time.Now().Format("15:04:05.000"), i, got, err))
	}
}

func (a *asking) begin() { a.judgedFrom = time.Now(); close(a.started) }

// judge says what came of the requests since the last time.
func (a *asking) judge(t *testing.T, step string) {
	t.Helper()
	sent := a.sent.Load()
	t.Logf("%s: %d requests in %v, %d failed", step, sent-a.judged, time.Since(a.judgedFrom).Round(100*time.Millisecond), a.bad.Load())
	a.judged, a.judgedFrom = sent, time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.bad.Load() > 0 {
		t.Errorf("%s: %d requests failed: %q", step, a.bad.Load(), a.first)
	}
}
