package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
)

var outageTime = flag.Duration("outage", 15*time.Second, "how long the API server is away in TestTrafficFlows")

// Bounds of how often one replica may ask. While the API server is away that
// is connections that were refused; when it is back, calls: there are some for
// each kind that is followed, the store, and what waits to be written.
const (
	mostAttempts = 8.0 // per second, on average: each of three connections tries twice
	mostCalls    = 100 // in any second
)

// outage takes the API server away under load, for as long as -outage says. No
// request fails; a replica that dies meanwhile returns with its own copy; nobody
// hammers; what is changed at the server's return is in force within 5 s; Leases
// and certificates go on.
func (s *stage) outage(t *testing.T) {
	pods, err := s.pods(t.Context())
	if err != nil || len(pods) != 3 {
		t.Fatalf("%d pods, want 3: %v", len(pods), err)
	}
	l := s.load(t, "/one", pods[1].Status.PodIP, pods[2].Status.PodIP)
	s.KillAPI()
	away := time.Now()
	before := [2]int{s.refusals(t, pods[1]), s.refusals(t, pods[2])}
	time.Sleep(*outageTime / 3)
	s.restartsAlone(t, pods[0])
	time.Sleep(time.Until(away.Add(*outageTime)))
	for i, pod := range pods[1:] {
		rate := float64(s.refusals(t, pod)-before[i]) / time.Since(away).Seconds()
		t.Logf("%s tried to reach the API server %.1f times a second", pod.Name, rate)
		if rate > mostAttempts || rate == 0 {
			t.Errorf("%s tried to reach the API server %.1f times a second, want at most %v, and any", pod.Name, rate, mostAttempts)
		}
	}
	starts := time.Now()
	if err := s.StartAPI(t.Context()); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	s.route(t, "/")
	if took := s.routed(t, "/two"); took > 5*time.Second {
		t.Errorf("a change was in force %v after the API server's return", took)
	} else {
		t.Logf("away for %v; a change was in force %v after the API server's return", starts.Sub(away).Round(time.Second), took)
	}
	// The Ingress's Secret is made anew when it is missing; another wants a new one.
	s.Apply(t, strings.NewReplacer("name: shop", "name: late", shop, "late."+zone, "shop-tls", "late-tls").Replace(shopIngress))
	s.delivered(t, "late-tls", "late."+zone)
	s.leased(t, pods, back)
	l.end(t, "API server away")
	s.oneOrder(t)
	s.judgeReturn(t, starts)
}

// refusals are the connections of a pod that nobody accepted, all of them to
// the API server.
func (s *stage) refusals(t *testing.T, pod corev1.Pod) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/snmp", s.node.Pid(pod.Namespace, pod.Name)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if fields[0] != "Tcp:" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		for i, name := range names {
			if name == "AttemptFails" {
				n, err := strconv.Atoi(fields[i])
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
		}
	}
	t.Fatalf("no AttemptFails in %s", text)
	return 0
}

// restartsAlone: a replica that dies while the API server is away comes back by
// itself, with its routes and its certificate.
func (s *stage) restartsAlone(t *testing.T, pod corev1.Pod) {
	t.Helper()
	s.node.Kill(t, pod.Namespace, pod.Name)
	killed := time.Now()
	for s.ask(pod, "/one") == http.StatusOK { // until it has gone
		time.Sleep(10 * time.Millisecond)
	}
	for s.ask(pod, "/one") != http.StatusOK {
		if time.Since(killed) > 30*time.Second {
			t.Fatalf("%s does not come back while the API server is away:\n%s", pod.Name, s.node.Log(pod.Namespace, pod.Name))
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("%s served again %v after it was killed, without the API server", pod.Name, time.Since(killed).Round(10*time.Millisecond))
	roots, err := s.ca.Issued(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: time.Second}, Config: &tls.Config{ServerName: zone, RootCAs: roots}}
	c, err := d.DialContext(t.Context(), "tcp", pod.Status.PodIP+":443")
	if err != nil {
		t.Errorf("its certificate: %v", err)
	} else {
		_ = c.Close()
	}
}

// leased waits until each replica has said since then that it is there.
func (s *stage) leased(t *testing.T, pods []corev1.Pod, since time.Time) {
	t.Helper()
	s.until(t, "every replica renews its Lease", func() error {
		var list coordinationv1.LeaseList
		if err := s.Do(t.Context(), "GET", "/apis/coordination.k8s.io/v1/namespaces/gatehouse/leases?labelSelector=gatehouse%2Fkind%3Dmembers", nil, &list); err != nil {
			return err
		}
		renewed := map[string]bool{}
		for _, lease := range list.Items {
			if lease.Spec.HolderIdentity != nil && lease.Spec.RenewTime != nil && lease.Spec.RenewTime.After(since) {
				renewed[*lease.Spec.HolderIdentity] = true
			}
		}
		for _, p := range pods {
			if !renewed[p.Name] {
				return fmt.Errorf("%s does not; %v do", p.Name, renewed)
			}
		}
		return nil
	})
}

// judgeReturn counts what the replicas asked since the API server was started
// again.
func (s *stage) judgeReturn(t *testing.T, since time.Time) {
	t.Helper()
	perSecond, all := map[int]int{}, map[string]int{}
	for _, c := range s.calls(t) {
		if c.At.After(since) {
			perSecond[int(c.At.Sub(since)/time.Second)]++
			all[c.Verb+" "+c.resource()]++
		}
	}
	most := 0
	for _, n := range perSecond {
		most = max(most, n)
	}
	t.Logf("since the API server's return three replicas asked at most %d times in a second: %v", most, all)
	if most > 3*mostCalls || most == 0 {
		t.Errorf("three replicas asked %d times in a second, want at most %d, and any", most, 3*mostCalls)
	}
}
