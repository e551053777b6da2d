package dns

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	mdns "github.com/miekg/dns"
)

// resolver asks a list of recursive servers, always all of them at once: no
// server's silence or refusal hides what another one knows.
type resolver struct {
	fixed []string // configured servers, "host:port"; none: resolv.conf
	conf  string   // path of resolv.conf
	port  string   // of authoritative servers
	asker asker
}

const systemResolvers = "/etc/resolv.conf"

func newResolver(servers []string) *resolver {
	r := &resolver{conf: systemResolvers, port: "53", asker: exchanger{}}
	for _, s := range servers {
		r.fixed = append(r.fixed, withPort(s))
	}
	return r
}

// withPort adds port 53 to an address that names none.
func withPort(server string) string {
	if _, _, err := net.SplitHostPort(server); err == nil {
		return server
	}
	if len(server) > 2 && server[0] == '[' && server[len(server)-1] == ']' {
		server = server[1 : len(server)-1]
	}
	return net.JoinHostPort(server, "53")
}

// servers names the servers to ask. resolv.conf is read each time: in a pod or
// on a laptop it changes under a running process.
func (r *resolver) servers() ([]string, error) {
	if len(r.fixed) > 0 {
		return r.fixed, nil
	}
	conf, err := mdns.ClientConfigFromFile(r.conf)
	if err != nil {
		return nil, fmt.Errorf("read the system's resolvers: %w", err)
	}
	if len(conf.Servers) == 0 {
		return nil, fmt.Errorf("no nameserver in %s and no resolvers configured", r.conf)
	}
	var servers []string
	for _, s := range conf.Servers {
		if s = net.JoinHostPort(s, conf.Port); !slices.Contains(servers, s) {
			servers = append(servers, s)
		}
	}
	return servers, nil
}

// all asks every server and waits for each (an answer, or its timeout). With a
// grace, the first definite answer starts it, and who has not answered by its
// end is not waited for.
func (r *resolver) all(ctx context.Context, servers []string, q question, grace time.Duration) []answer {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make([]answer, len(servers))
	var wg sync.WaitGroup
	var once sync.Once
	for i, s := range servers {
		wg.Go(func() {
			answers[i] = r.asker.ask(ctx, s, q)
			if grace > 0 && definite(answers[i]) {
				once.Do(func() { time.AfterFunc(grace, cancel) })
			}
		})
	}
	wg.Wait()
	return answers
}

// definite says whether the answer is a statement about the name, as opposed
// to trouble on the way or in the server.
func definite(a answer) bool {
	return a.err == nil && (a.msg.Rcode == mdns.RcodeSuccess || a.msg.Rcode == mdns.RcodeNameError)
}

// says is the short form of an answer in error lines and reports.
func says(a answer) string {
	if a.err != nil {
		return reason(a.err)
	}
	return "said " + mdns.RcodeToString[a.msg.Rcode]
}

// nameServer is one address of an authoritative server.
type nameServer struct {
	host string
	addr string // "ip:port"
}

// nsGrace is how long slower resolvers are waited for where any definite
// answer will do.
const nsGrace = 250 * time.Millisecond

// nameServers lists all addresses of the servers the zone is delegated to, as
// the configured resolvers (and not the system's) know them.
func (r *resolver) nameServers(ctx context.Context, zone string) ([]nameServer, error) {
	servers, err := r.servers()
	if err != nil {
		return nil, err
	}
	hosts := map[string]bool{}
	for _, a := range r.all(ctx, servers, question{zone, mdns.TypeNS}, nsGrace) {
		for _, host := range nsIn(zone, a) {
			hosts[host] = true
		}
	}
	var mu sync.Mutex
	var found []nameServer
	var wg sync.WaitGroup
	for host := range hosts {
		for _, qtype := range []uint16{mdns.TypeA, mdns.TypeAAAA} {
			wg.Go(func() {
				answers := r.all(ctx, servers, question{host, qtype}, nsGrace)
				mu.Lock()
				defer mu.Unlock()
				for _, ip := range addresses(answers) {
					found = append(found, nameServer{host, net.JoinHostPort(ip, r.port)})
				}
			})
		}
	}
	wg.Wait()
	slices.SortFunc(found, func(a, b nameServer) int {
		if a.addr < b.addr {
			return -1
		}
		return 1
	})
	return slices.CompactFunc(found, func(a, b nameServer) bool { return a.addr == b.addr }), nil
}

// nsIn gives the name servers of the zone in the answer.
func nsIn(zone string, a answer) (hosts []string) {
	if !definite(a) {
		return nil
	}
	for _, rr := range a.msg.Answer {
		if ns, ok := rr.(*mdns.NS); ok && canonical(ns.Hdr.Name) == zone {
			hosts = append(hosts, canonical(ns.Ns))
		}
	}
	return hosts
}

// addresses collects the addresses in the answers.
func addresses(answers []answer) []string {
	var ips []string
	for _, a := range answers {
		if !definite(a) {
			continue
		}
		for _, rr := range a.msg.Answer {
			switch rr := rr.(type) {
			case *mdns.A:
				ips = append(ips, rr.A.String())
			case *mdns.AAAA:
				ips = append(ips, rr.AAAA.String())
			}
		}
	}
	return ips
}

// texts gives the TXT values at the name and the TTL they came with.
func texts(m *mdns.Msg, name string) (values []string, ttl time.Duration) {
	for _, rr := range m.Answer {
		if txt, ok := rr.(*mdns.TXT); ok && canonical(txt.Hdr.Name) == name {
			var v string
			for _, part := range txt.Txt {
				v += part
			}
			values = append(values, v)
			ttl = time.Duration(txt.Hdr.Ttl) * time.Second
		}
	}
	return values, ttl
}
