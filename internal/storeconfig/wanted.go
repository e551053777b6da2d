package storeconfig

import (
	"fmt"
	"strings"

	"gatehouse/internal/config"
	"gatehouse/internal/store"
	"gatehouse/internal/traefik1"
)

// wanted is the tree that shall stand in the store. Keys are relative to root,
// except those of storage, which are relative to acme.storage.
type wanted struct {
	root    string
	storage string // acme.storage, whole; "": none
	inside  string // acme.storage relative to root; "": it is not below root
	pairs   []traefik1.Pair
	account []traefik1.Pair // ACME's first data, where storage is not below root
}

// wanted makes the tree and proves that every store takes it.
func (o Options) wanted() (wanted, error) {
	w := wanted{root: "traefik"}
	if o.Written.Etcd != nil && strings.Trim(o.Written.Etcd.Prefix, "/") != "" {
		w.root = strings.Trim(o.Written.Etcd.Prefix, "/")
	}
	if o.Written.ACME != nil {
		w.storage = strings.Trim(o.Written.ACME.Storage, "/")
		w.inside, _ = strings.CutPrefix(w.storage, w.root+"/")
		if w.inside == w.storage {
			w.inside = ""
		}
	}
	var problems []config.Problem
	if o.Routing != nil {
		_, problems = traefik1.Parse(o.Routing, "file")
		problems = onlyErrors(problems)
	}
	pairs := traefik1.StaticTree(o.Written)
	if o.Routing != nil {
		routing, more := traefik1.RoutingTree(o.Routing, w.root)
		problems = append(problems, more...)
		pairs = append(pairs, routing...)
	}
	values := map[string]bool{}
	for _, p := range pairs {
		key, below := strings.CutPrefix(p.Key, w.root+"/")
		if !below {
			if account, ok := strings.CutPrefix(p.Key, w.storage+"/"); ok && !p.Dir {
				p.Key = account
				w.account = append(w.account, p)
			}
			continue
		}
		p.Key = key
		if err := store.CheckWrite(key, []byte(p.Value)); err != nil {
			problems = append(problems, config.Problem{Object: "key " + p.Key, Message: err.Error()})
		}
		if !p.Dir && values[key] {
			problems = append(problems, config.Problem{Object: "key " + p.Key, Message: "is written twice"})
		}
		values[key] = values[key] || !p.Dir
		w.pairs = append(w.pairs, p)
	}
	if len(problems) > 0 {
		return w, &InvalidError{problems}
	}
	return w, nil
}

func onlyErrors(problems []config.Problem) []config.Problem {
	var errors []config.Problem
	for _, p := range problems {
		if !p.Warning {
			errors = append(errors, p)
		}
	}
	return errors
}

// isACME tells keys, relative to root, that are ACME's data.
func (w wanted) isACME(key string) bool {
	return w.inside != "" && store.Under(key, w.inside) || store.Under(key, "acme/account")
}

// isSecret tells keys whose values must not be shown, by their last names.
func isSecret(key, value string) bool {
	parts := strings.Split(strings.ToLower(key), "/")
	for _, part := range parts[max(0, len(parts)-2):] {
		switch part {
		case "users", "basicauth", "password", "token", "key", "hmacencoded", "object":
			return true
		}
	}
	return strings.Contains(value, "PRIVATE KEY")
}

// show is a value as people may see it.
func show(p traefik1.Pair) string {
	if p.Value != "" && (p.Secret || isSecret(p.Key, p.Value)) {
		return "(secret)"
	}
	const most = 200
	if len(p.Value) > most {
		return fmt.Sprintf("%q... (%d bytes)", p.Value[:most], len(p.Value))
	}
	return fmt.Sprintf("%q", p.Value)
}
