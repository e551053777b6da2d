package proxy

import (
	"slices"

	"gatehouse/internal/config"
)

// sameRouter reports whether two routers are declared alike, wherever that is
// written.
func sameRouter(a, b *config.Router) bool {
	return a.Rule == b.Rule && a.Service == b.Service && a.Priority == b.Priority && a.Closed == b.Closed &&
		slices.Equal(a.EntryPoints, b.EntryPoints) && slices.Equal(a.Middlewares, b.Middlewares) &&
		(a.PassHostHeader == b.PassHostHeader || a.PassHostHeader != nil && b.PassHostHeader != nil && *a.PassHostHeader == *b.PassHostHeader) &&
		sameTLS(a.TLS, b.TLS)
}

func sameTLS(a, b *config.RouterTLS) bool {
	if a == b || a == nil || b == nil {
		return a == b
	}
	return a.CertResolver == b.CertResolver && a.Options == b.Options && slices.EqualFunc(a.Domains, b.Domains, func(x, y config.Domain) bool {
		return x.Main == y.Main && slices.Equal(x.SANs, y.SANs)
	})
}

// sameMiddleware reports whether two middlewares are declared alike, and at the
// same place: what is wrong with them is told with it.
func sameMiddleware(a, b config.Middleware) bool {
	return a.Kind == b.Kind && a.Origin == b.Origin && sameNode(a.Params, b.Params)
}

func sameNode(a, b *config.Node) bool {
	if a == b || a == nil || b == nil {
		return a == b
	}
	return a.Kind == b.Kind && a.Value == b.Value && a.Origin == b.Origin && a.Weak == b.Weak && a.Nanos == b.Nanos &&
		slices.EqualFunc(a.Items, b.Items, sameNode) &&
		slices.EqualFunc(a.Fields, b.Fields, func(x, y config.Field) bool {
			return x.Name == y.Name && x.Origin == y.Origin && sameNode(x.Node, y.Node)
		})
}
