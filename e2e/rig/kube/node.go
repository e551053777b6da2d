package kube

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const nodeName = "node"

// Image is what containers of an image are made of.
type Image struct {
	Files      map[string]string // in the container -> on this machine
	Entrypoint []string          // absolute; a container's command replaces it
	UID        int               // its user, if the pod names none
}

// Node is a kubelet: it runs pods as processes, each in network, mount and
// process namespaces of its own, with the image's files, volumes, environment,
// probes, restarts, logs and an address. It binds every pod to itself. What of
// a pod it does not know it refuses in the pod's status. It also gives Services
// of type LoadBalancer an address and relays to their ready pods.
type Node struct {
	kube   *Kube
	images map[string]Image
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	pods     map[string]*pod // by UID
	ips      int
	balanced map[string]*balancer // by namespace/name
}

// StartNode runs a node until the test ends. images are known by their name,
// tag included. The package's TestMain must call Main.
func (k *Kube) StartNode(t testing.TB, images map[string]Image) *Node {
	t.Helper()
	n, err := k.NewNode(t.Context(), images)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	return n
}

// NewNode starts a node. The caller calls Stop in the end.
func (k *Kube) NewNode(ctx context.Context, images map[string]Image) (*Node, error) {
	if !InNetwork() {
		why := os.Getenv(networkEnv)
		if why == "" {
			why = "the package's TestMain does not call kube.Main"
		}
		return nil, fmt.Errorf("start a node: %s", why)
	}
	n := &Node{kube: k, images: images, pods: map[string]*pod{}, balanced: map[string]*balancer{}}
	object := map[string]any{"metadata": map[string]any{"name": nodeName, "labels": map[string]any{
		"kubernetes.io/hostname": nodeName, "topology.kubernetes.io/zone": "zone-a",
	}}}
	if err := k.Do(ctx, http.MethodPost, "/api/v1/nodes", object, nil); err != nil {
		return nil, fmt.Errorf("start a node: %w", err)
	}
	status := map[string]any{"status": map[string]any{
		"conditions":      []any{map[string]any{"type": "Ready", "status": "True", "reason": "Rig", "lastHeartbeatTime": time.Now().UTC().Format(time.RFC3339)}},
		"addresses":       []any{map[string]any{"type": "InternalIP", "address": NodeIP}},
		"daemonEndpoints": map[string]any{"kubeletEndpoint": map[string]any{"Port": kubeletPort}},
	}}
	if err := k.Do(ctx, http.MethodPatch, "/api/v1/nodes/"+nodeName+"/status", status, nil); err != nil {
		return nil, fmt.Errorf("start a node: %w", err)
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	if err := n.serveLogs(); err != nil {
		return nil, fmt.Errorf("start a node: %w", err)
	}
	for path, sync := range map[string]func() error{
		"/api/v1/pods": n.syncPods, "/api/v1/services": n.syncServices, "/apis/discovery.k8s.io/v1/endpointslices": n.syncServices,
	} {
		n.wg.Go(func() { n.follow(path, sync) })
	}
	return n, nil
}

// Stop kills all pods.
func (n *Node) Stop() {
	n.cancel()
	n.wg.Wait()
}

// follow calls sync at once, after each change of what is at path, and after
// trouble.
func (n *Node) follow(path string, sync func() error) {
	for n.ctx.Err() == nil {
		_ = n.watch(path, sync)
		select {
		case <-n.ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (n *Node) watch(path string, sync func() error) error {
	// The watch first: what changes while we list is seen after it.
	req, err := http.NewRequestWithContext(n.ctx, http.MethodGet, n.kube.Server+path+"?watch=1", nil)
	if err != nil {
		return err
	}
	resp, err := n.kube.admin.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	lines := bufio.NewReader(resp.Body)
	events := make(chan error, 1)
	go func() {
		defer close(events)
		for {
			if _, err := lines.ReadSlice('\n'); err != nil && !errors.Is(err, bufio.ErrBufferFull) {
				return
			}
			select {
			case events <- nil:
			default: // one is waiting: a sync sees all
			}
		}
	}()
	for ok := true; ok; _, ok = <-events {
		if err := sync(); err != nil {
			return err
		}
	}
	return nil
}

// syncPods compares the pods that are wanted with those that run.
func (n *Node) syncPods() error {
	var list corev1.PodList
	if err := n.kube.Do(n.ctx, http.MethodGet, "/api/v1/pods", nil, &list); err != nil {
		return err
	}
	wanted := map[string]bool{}
	for i := range list.Items {
		object := &list.Items[i]
		wanted[string(object.UID)] = true
		if object.Spec.NodeName == "" && object.DeletionTimestamp == nil {
			n.bind(object)
			continue
		}
		n.mu.Lock()
		p := n.pods[string(object.UID)]
		if p == nil {
			p = n.newPod(object)
			n.pods[string(object.UID)] = p
			n.wg.Go(p.run)
		}
		n.mu.Unlock()
		if object.DeletionTimestamp != nil {
			p.end(time.Duration(*object.DeletionGracePeriodSeconds) * time.Second)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for uid, p := range n.pods {
		if !wanted[uid] {
			p.end(0)
			delete(n.pods, uid)
		}
	}
	return nil
}

// bind is the scheduler.
func (n *Node) bind(object *corev1.Pod) {
	_ = n.kube.Do(n.ctx, http.MethodPost, "/api/v1/namespaces/"+object.Namespace+"/pods/"+object.Name+"/binding", map[string]any{
		"apiVersion": "v1", "kind": "Binding", "metadata": map[string]any{"name": object.Name},
		"target": map[string]any{"apiVersion": "v1", "kind": "Node", "name": nodeName},
	}, nil) // a failure is seen at the next turn: the pod is unbound still
}

// newPod; the caller holds the mutex.
func (n *Node) newPod(object *corev1.Pod) *pod {
	n.ips++
	p := &pod{node: n, object: object, ip: fmt.Sprintf("10.245.%d.%d", n.ips>>8, n.ips&255), link: fmt.Sprintf("v%d", n.ips)}
	p.dir = filepath.Join(n.kube.dir, "pods", string(object.UID))
	p.ctx, p.cancel = context.WithCancel(n.ctx)
	p.ending = make(chan struct{})
	return p
}

func (n *Node) find(namespace, name string) *pod {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.pods {
		if p.object.Namespace == namespace && p.object.Name == name {
			return p
		}
	}
	return nil
}

// Log is what a pod's container has written so far, of all its lives.
func (n *Node) Log(namespace, name string) string {
	p := n.find(namespace, name)
	if p == nil {
		return ""
	}
	text, _ := os.ReadFile(p.log())
	return string(text)
}

// Kill ends a pod's process with SIGKILL; the node starts it again after a
// second, as a kubelet does.
func (n *Node) Kill(t testing.TB, namespace, name string) {
	t.Helper()
	p := n.find(namespace, name)
	if p == nil || !p.kill() {
		t.Fatalf("kill %s/%s: it does not run", namespace, name)
	}
}

// Pid is the process of a pod that runs; 0: it does not. What the kernel knows of
// it, and of its network, stands below /proc/<pid>.
func (n *Node) Pid(namespace, name string) int {
	p := n.find(namespace, name)
	if p == nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process == nil {
		return 0
	}
	return p.process.Pid
}
