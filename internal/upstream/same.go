package upstream

import (
	"maps"
	"slices"

	"gatehouse/internal/config"
)

// sameBalancer reports whether two services with servers are declared alike,
// wherever that is written.
func sameBalancer(a, b *config.LoadBalancer) bool {
	if a == b {
		return true
	}
	return a.MaxConn == b.MaxConn && a.ResponseForwarding == b.ResponseForwarding && samePointed(a.PassHostHeader, b.PassHostHeader) &&
		slices.EqualFunc(a.Servers, b.Servers, func(x, y config.Server) bool { return x.Name == y.Name && x.URL == y.URL && x.Weight == y.Weight }) &&
		samePointed(a.Sticky, b.Sticky) && sameHealth(a.HealthCheck, b.HealthCheck) && sameTransport(&a.ServersTransport, &b.ServersTransport)
}

// sameOrigins reports whether it is also written at the same places.
func sameOrigins(a, b *config.Service) bool {
	return a.Origin == b.Origin && slices.EqualFunc(a.LoadBalancer.Servers, b.LoadBalancer.Servers, func(x, y config.Server) bool { return x.Origin == y.Origin })
}

func samePointed[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}

func sameHealth(a, b *config.HealthCheck) bool {
	if a == b || a == nil || b == nil {
		return a == b
	}
	return a.Scheme == b.Scheme && a.Path == b.Path && a.Port == b.Port && a.Hostname == b.Hostname &&
		a.Interval == b.Interval && a.Timeout == b.Timeout && maps.Equal(a.Headers, b.Headers)
}

func sameTransport(a, b *config.ServersTransport) bool {
	return a.ServerName == b.ServerName && a.InsecureSkipVerify == b.InsecureSkipVerify && a.DisableHTTP2 == b.DisableHTTP2 &&
		slices.Equal(a.RootCAs, b.RootCAs) && slices.Equal(a.Certificates, b.Certificates)
}
