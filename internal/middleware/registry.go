package middleware

import (
	"fmt"
	"slices"
	"strings"

	"gatehouse/internal/config"
)

// Builders lists every kind of middleware by the name people write.
func Builders() map[string]Builder {
	return map[string]Builder{
		"addPrefix": build[AddPrefix],
		"basicAuth": build[BasicAuth],

		"compress":           build[Compress],
		"headers":            build[Headers],
		"inFlightReq":        build[InFlightReq],
		"ipAllowList":        build[IPAllowList],
		"ipWhiteList":        build[IPAllowList], // the name in Traefik 2
		"rateLimit":          build[RateLimit],
		"redirectEntryPoint": build[RedirectEntryPoint],
		"redirectRegex":      build[RedirectRegex],
		"redirectScheme":     build[RedirectScheme],
		"replacePath":        build[ReplacePath],
		"replacePathRegex":   build[ReplacePathRegex],
		"stripPrefix":        build[StripPrefix],
		"stripPrefixRegex":   build[StripPrefixRegex],
	}
}

// Find gives the builder of a kind among those listed, whatever its case: keys
// of configuration are matched so everywhere, and stores hand them over in lower
// case.
func Find(builders map[string]Builder, kind string) (Builder, bool) {
	if b, ok := builders[kind]; ok {
		return b, true
	}
	for name, b := range builders {
		if strings.EqualFold(name, kind) {
			return b, true
		}
	}
	return nil, false
}

// Params are a kind's decoded parameters. Build may also be called directly,
// by whoever has the parameters from elsewhere (an entry point's settings).
type Params interface {
	Build(env Env) (Middleware, []config.Problem)
}

// build decodes strictly on top of the kind's defaults, then builds.
func build[P Params](n *config.Node, env Env) (Middleware, []config.Problem) {
	env.params = n
	var p P
	if d, ok := any(&p).(interface{ SetDefaults() }); ok {
		d.SetDefaults()
	}
	problems := config.Decode(n, &p)
	for i := range problems {
		problems[i].Object = strings.TrimSuffix(env.object()+": "+problems[i].Object, ": ")
	}
	if hasError(problems) {
		return Middleware{}, problems
	}
	m, more := p.Build(env)
	problems = append(problems, more...)
	if hasError(problems) {
		return Middleware{}, problems
	}
	return m, problems
}

func hasError(problems []config.Problem) bool {
	return slices.ContainsFunc(problems, func(p config.Problem) bool { return !p.Warning })
}

func (e Env) object() string { return "middleware " + e.Name }

// problem is a mistake in the value of a key.
func (e Env) problem(key, message, allowed string) config.Problem {
	return e.problemAt(key, -1, message, allowed)
}

// problemAt is a mistake in one item of the list that stands under a key.
func (e Env) problemAt(key string, index int, message, allowed string) config.Problem {
	p := config.Problem{Origin: e.Origin, Object: e.object() + ": key " + key, Message: message, Allowed: allowed}
	if index >= 0 {
		p.Object += fmt.Sprintf(".%d", index)
	}
	if e.params == nil {
		return p
	}
	for _, f := range e.params.Fields {
		if !strings.EqualFold(f.Name, key) {
			continue
		}
		p.Origin = nearest(f.Origin, p.Origin)
		if f.Node != nil && index >= 0 && index < len(f.Node.Items) {
			p.Origin = nearest(f.Node.Items[index].Origin, p.Origin)
		}
	}
	return p
}

// nearest prefers the place that says more, if it says anything.
func nearest(inner, outer config.Origin) config.Origin {
	if inner == (config.Origin{}) {
		return outer
	}
	return inner
}

// missing is a key that must be there and is not.
func (e Env) missing(key, allowed string) (Middleware, []config.Problem) {
	return Middleware{}, []config.Problem{e.problem(key, "is missing or empty", allowed)}
}
