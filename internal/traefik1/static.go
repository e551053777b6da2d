package traefik1

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"gatehouse/internal/config"
	"gatehouse/internal/store"
)

// Pair is one node of the tree that storeconfig writes.
type Pair struct {
	Key    string // with the prefix, without a leading slash
	Value  string
	Dir    bool // a folder: it exists by what is in it
	Secret bool // the value must not be shown
	// Keep marks data that outlives the configuration (the ACME account): it
	// is written only where there is none.
	Keep bool
}

// emptyAccount is the ACME account 1.5 wrote when it had none to import: its
// replicas would not start without one.
const emptyAccount = `{"Email":"","Registration":null,"PrivateKey":null,"DomainsCertificate":{"Certs":null},"ChallengeCerts":{}}`

// StaticTree is the static configuration as the tree Traefik 1.5.0-rc3 wrote,
// node by node, sorted by key: its names, its zero values, its encodings. s
// is as decoded, before Normalize has moved the deprecated names. What rc3
// did not know appears only where it is set. A section that is on and has
// nothing in it is a key without a value. The folders of the prefix itself
// are no part of the tree.
func StaticTree(s *config.Static) []Pair {
	w := treeWriter{}
	root := "traefik"
	if s.Etcd != nil && strings.Trim(s.Etcd.Prefix, "/") != "" {
		root = strings.Trim(s.Etcd.Prefix, "/")
	}
	w.section(root, reflect.ValueOf(s).Elem(), reflect.ValueOf(config.Defaults()).Elem())
	if s.ACME != nil && strings.Trim(s.ACME.Storage, "/") != "" {
		storage := strings.Trim(s.ACME.Storage, "/")
		object := base64.StdEncoding.EncodeToString([]byte(emptyAccount))
		w.pairs = append(w.pairs,
			Pair{Key: storage + "/object", Value: object, Secret: true, Keep: true},
			Pair{Key: storage + "/lock", Keep: true})
	}
	return withFolders(w.pairs, root)
}

// withFolders adds the folders that the pairs are in, below root, and sorts.
func withFolders(pairs []Pair, root string) []Pair {
	seen := map[string]bool{}
	for at := root; at != ""; at = parent(at) {
		seen[at] = true
	}
	for _, p := range pairs {
		for at := parent(p.Key); at != "" && !seen[at]; at = parent(at) {
			seen[at] = true
			pairs = append(pairs, Pair{Key: at, Dir: true})
		}
	}
	slices.SortFunc(pairs, func(a, b Pair) int { return cmp.Compare(a.Key, b.Key) })
	return pairs
}

// parent is the folder a key is in, "" at the top.
func parent(key string) string {
	i := strings.LastIndexByte(key, '/')
	return key[:max(i, 0)]
}

// treeWriter flattens a value that is described by key tags.
type treeWriter struct{ pairs []Pair }

// later are the settings of rc3's sections that rc3 did not know, by type and
// key or by type; they are written only where they are set.
var later = map[string]bool{
	"Static.allowMinWeightZero": true, "Static.keepTrailingSlash": true,
	"Redirect.permanent":     true,
	"BasicAuth.removeHeader": true, "BasicAuth.realm": true, "DigestAuth.removeHeader": true,
	"EntryPointTLS.sniStrict":   true,
	"ACME.overrideCertificates": true, "ACME.keyType": true, "ACME.preferredChain": true, "ACME.profile": true,
	"ACME.secondKeyType": true, "ACME.fallbacks": true, "ACME.onDemandPolicy": true, "DNSChallenge.persist": true, "ACME.pack": true,
	"ACME.storageFile":        true, // read once by storeconfig, never left behind
	"Kubernetes.ingressClass": true, "Kubernetes.throttleDuration": true, "Kubernetes.allowExternalNameServices": true, "Kubernetes.zone": true,
	"API.readOnly":            true,
	"AccessLog.bufferingSize": true,
	"Store":                   true, // all of it is ours
	"EntryPointTLS.profile":   true,
	"EntryPoint.h2c":          true, "EntryPoint.addresses": true, "EntryPoint.maxConnectionsPerAddress": true,
}

// never are settings that are consumed by storeconfig itself, and the keys that
// seal what is in the store: beside it they would seal nothing.
var never = map[string]bool{"ACME.storageFile": true, "Store.sealKey": true}

// section writes a struct; otherwise holds what it is by default, if known.
func (w *treeWriter) section(at string, v, otherwise reflect.Value) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		var usual reflect.Value
		if otherwise.IsValid() {
			usual = otherwise.Field(i)
		}
		key := f.Tag.Get("key")
		switch name := v.Type().Name() + "." + key; {
		case f.Anonymous:
			w.section(at, v.Field(i), usual)
		case key == "" || never[name]:
		case (later[name] || later[v.Type().Name()]) && (v.Field(i).IsZero() || usual.IsValid() && v.Field(i).Equal(usual)):
		default:
			w.value(at+"/"+strings.ToLower(key), v.Field(i), usual)
		}
	}
}

func (w *treeWriter) value(at string, v, otherwise reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return
		}
		isUsual := otherwise.IsValid() && !otherwise.IsNil()
		if isUsual {
			otherwise = otherwise.Elem()
		} else {
			otherwise = reflect.Value{}
		}
		before := len(w.pairs)
		w.value(at, v.Elem(), otherwise)
		if len(w.pairs) == before && !isUsual {
			w.pairs = append(w.pairs, Pair{Key: at})
		}
	case reflect.Struct:
		w.section(at, v, otherwise)
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			w.value(at+"/"+it.Key().String(), it.Value(), reflect.Value{})
		}
	case reflect.Slice:
		for i := range v.Len() {
			w.value(at+"/"+strconv.Itoa(i), v.Index(i), reflect.Value{})
		}
	default:
		_, secret := v.Interface().(config.Secret)
		w.pairs = append(w.pairs, Pair{Key: at, Value: plain(v), Secret: secret})
	}
}

// plain writes a scalar as 1.x did: durations are nanoseconds.
func plain(v reflect.Value) string {
	switch v.Kind() {
	case reflect.String:
		return v.String() // a Secret's text too
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case reflect.Int, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10)
	case reflect.Float64:
		return strconv.FormatFloat(v.Float(), 'f', -1, 64)
	}
	panic(fmt.Sprintf("traefik1: a setting of type %s has no form in a key-value tree", v.Type()))
}

// StaticNode turns a tree that storeconfig wrote, ours or 1.x's, into a node
// for config.Overlay: keys in any case, every value a text, bare integers as
// durations in nanoseconds. Keys relative to the prefix. Routing, the alias,
// ACME's data and the keys of 1.x's locks and leaders are left aside.
func StaticNode(entries []store.Entry, from TreeSource) (*config.Node, []config.Problem) {
	storage := acmeStorage(entries, from.Prefix)
	static := make([]store.Entry, 0, len(entries))
	for _, e := range entries {
		top, _, _ := strings.Cut(e.Key, "/")
		if !isRoutingRoot(top) && !isBookkeeping(e.Key) && !store.Under(e.Key, storage) {
			static = append(static, e)
		}
	}
	n, problems := Tree(static, from)
	if n != nil {
		n.Nanos = true
	}
	return n, problems
}

// acmeStorage gives the key, below the prefix, under which the tree itself says
// that 1.x kept its ACME data.
func acmeStorage(entries []store.Entry, prefix string) string {
	for _, e := range entries {
		if !strings.EqualFold(e.Key, "acme/storage") {
			continue
		}
		rest, ok := strings.CutPrefix(strings.Trim(string(e.Value), "/")+"/", strings.Trim(prefix, "/")+"/")
		if rest = strings.Trim(rest, "/"); ok && rest != "" {
			return rest
		}
	}
	return "acme/account"
}

// isBookkeeping tells the keys that are neither settings nor routing: those
// 1.x's replicas talked to each other by, and our switches.
func isBookkeeping(key string) bool {
	return key == "leader" || strings.HasSuffix(key, "___lock") || key == Alias || key == AllowEmpty
}

// RoutingEntries gives those of a tree's entries that are, or were meant to be,
// routing: neither static configuration nor ACME data nor bookkeeping. Keys
// relative to the prefix.
func RoutingEntries(entries []store.Entry, prefix string) []store.Entry {
	static := staticRoots()
	storage := acmeStorage(entries, prefix)
	var routing []store.Entry
	for _, e := range entries {
		top, _, _ := strings.Cut(e.Key, "/")
		isStatic := slices.ContainsFunc(static, func(s string) bool { return strings.EqualFold(s, top) })
		if isRoutingRoot(top) || !isStatic && !isBookkeeping(e.Key) && !store.Under(e.Key, storage) {
			routing = append(routing, e)
		}
	}
	return routing
}

// staticRoots are the keys at the top of the static configuration.
func staticRoots() []string {
	var names []string
	t := reflect.TypeFor[config.Static]()
	for i := range t.NumField() {
		if key := t.Field(i).Tag.Get("key"); key != "" {
			names = append(names, key)
		}
	}
	return names
}
