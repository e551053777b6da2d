package kube

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

const kubeletPort = 10250

// serveLogs answers what kubectl logs asks.
func (n *Node) serveLogs() error {
	pair, err := tls.LoadX509KeyPair(filepath.Join(n.kube.dir, "server.crt"), filepath.Join(n.kube.dir, "server.key"))
	if err != nil {
		return err
	}
	l, err := tls.Listen("tcp", fmt.Sprintf("%s:%d", NodeIP, kubeletPort), &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", func(w http.ResponseWriter, r *http.Request) {
		p := n.find(r.PathValue("namespace"), r.PathValue("pod"))
		if p == nil {
			http.Error(w, "no such pod runs here", http.StatusNotFound)
			return
		}
		p.serveLog(w, r)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	n.wg.Go(func() { _ = server.Serve(l) })
	context.AfterFunc(n.ctx, func() { _ = server.Close() })
	return nil
}

func (p *pod) serveLog(w http.ResponseWriter, r *http.Request) {
	f, err := os.Open(p.log())
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	for {
		if _, err := io.Copy(w, f); err != nil || r.FormValue("follow") != "true" {
			return
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-p.ctx.Done():
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// balancer is the cloud's load balancer before a Service: it relays each
// connection to a ready pod, in turn.
type balancer struct {
	ip      string
	mu      sync.Mutex
	targets map[int32][]string // by port of the Service
	next    atomic.Uint64
}

// syncServices compares the Services of type LoadBalancer with the balancers.
func (n *Node) syncServices() error {
	var services corev1.ServiceList
	if err := n.kube.Do(n.ctx, http.MethodGet, "/api/v1/services", nil, &services); err != nil {
		return err
	}
	var slices discoveryv1.EndpointSliceList
	if err := n.kube.Do(n.ctx, http.MethodGet, "/apis/discovery.k8s.io/v1/endpointslices", nil, &slices); err != nil {
		return err
	}
	for i := range services.Items {
		s := &services.Items[i]
		if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
			continue
		}
		b, err := n.balancerOf(s)
		if err != nil {
			return err
		}
		b.mu.Lock()
		b.targets = targets(s, slices.Items)
		b.mu.Unlock()
	}
	return nil
}

func targets(s *corev1.Service, slices []discoveryv1.EndpointSlice) map[int32][]string {
	out := map[int32][]string{}
	for _, slice := range slices {
		if slice.Namespace != s.Namespace || slice.Labels[discoveryv1.LabelServiceName] != s.Name {
			continue
		}
		for _, port := range s.Spec.Ports {
			for _, to := range slice.Ports {
				if *to.Name != port.Name {
					continue
				}
				for _, e := range slice.Endpoints {
					if e.Conditions.Ready == nil || *e.Conditions.Ready {
						out[port.Port] = append(out[port.Port], fmt.Sprintf("%s:%d", e.Addresses[0], *to.Port))
					}
				}
			}
		}
	}
	return out
}

func (n *Node) balancerOf(s *corev1.Service) (*balancer, error) {
	name := s.Namespace + "/" + s.Name
	n.mu.Lock()
	defer n.mu.Unlock()
	if b := n.balanced[name]; b != nil {
		return b, nil
	}
	b := &balancer{ip: fmt.Sprintf("10.244.1.%d", len(n.balanced)+1)}
	for _, port := range s.Spec.Ports {
		if port.Protocol == corev1.ProtocolUDP {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", b.ip, port.Port))
		if err != nil {
			return nil, err
		}
		context.AfterFunc(n.ctx, func() { _ = l.Close() })
		go b.accept(l, port.Port)
	}
	n.balanced[name] = b
	status := map[string]any{"status": map[string]any{"loadBalancer": map[string]any{"ingress": []any{map[string]any{"ip": b.ip}}}}}
	return b, n.kube.Do(n.ctx, http.MethodPatch, "/api/v1/namespaces/"+s.Namespace+"/services/"+s.Name+"/status", status, nil)
}

// Balancer is the address of the load balancer before a Service; empty if
// there is none yet.
func (n *Node) Balancer(service string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if b := n.balanced[service]; b != nil {
		return b.ip
	}
	return ""
}

func (b *balancer) accept(l net.Listener, port int32) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go b.relay(c, port)
	}
}

func (b *balancer) relay(c net.Conn, port int32) {
	defer func() { _ = c.Close() }()
	b.mu.Lock()
	list := b.targets[port]
	b.mu.Unlock()
	for range list {
		to, err := net.DialTimeout("tcp", list[b.next.Add(1)%uint64(len(list))], time.Second)
		if err != nil {
			continue // as a balancer's own check would have it
		}
		go func() {
			_, _ = io.Copy(to, c)
			_ = to.(*net.TCPConn).CloseWrite()
		}()
		_, _ = io.Copy(c, to)
		_ = to.Close()
		return
	}
}
