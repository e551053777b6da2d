package middleware

import (
	"net/http"

	"gatehouse/internal/config"
	"gatehouse/internal/wire"
)

// IPAllowList lets only clients from some networks pass.
type IPAllowList struct {
	SourceRange      []string    `key:"sourceRange"`
	IPStrategy       *IPStrategy `key:"ipStrategy"`
	RejectStatusCode int         `key:"rejectStatusCode"` // 0: 403
}

// Build makes the middleware.
func (p IPAllowList) Build(env Env) (Middleware, []config.Problem) {
	if len(p.SourceRange) == 0 {
		return env.missing("sourceRange", `a list of addresses or networks, such as ["10.0.0.0/8"]`)
	}
	allowed, problems := prefixes(env, "sourceRange", p.SourceRange)
	address, more := p.IPStrategy.addressOf(env, "ipStrategy")
	problems = append(problems, more...)
	status := p.RejectStatusCode
	if status == 0 {
		status = http.StatusForbidden
	}
	if status < 400 || status > 599 {
		problems = append(problems, env.problem("rejectStatusCode", "is no status of a refusal", "400 to 599"))
	}
	m := Middleware{Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !contains(allowed, address(r)) {
				http.Error(w, http.StatusText(status), status)
				return
			}
			next.ServeHTTP(w, r)
		})
	}}
	if p.IPStrategy.isPeer() {
		m.Stage.Pass = func(x *wire.Exchange) bool { return contains(allowed, addressIn(x.Remote)) }
	}
	return m, problems
}
