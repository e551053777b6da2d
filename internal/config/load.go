package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// LoadInput is what a process is given at start.
type LoadInput struct {
	Args    []string  // command line without program and verb
	Own     []OwnFlag // flags of the verb itself
	Environ []string  // os.Environ()
	// Search are the folders looked through where no file is named; nil: the
	// usual ones.
	Search []string
}

// Loaded is a static configuration with what it was made of.
type Loaded struct {
	Static *Static // in the normal form
	// Written is the same before Normalize, deprecated names in their old
	// places: what storeconfig writes to the store.
	Written *Static
	File    string // the file that was read; "": none
	// Routing holds the sections of that file that are routing configuration
	// (http, tls, backends, frontends), for the file provider; nil: none.
	Routing *Node
	Flags   FlagInfo

	layers   []*Node
	reported map[string]bool
}

// routingSections may stand beside the static configuration in its file.
var routingSections = []string{"http", "tls", "backends", "frontends"}

// Load makes the static configuration: defaults, then the file, the
// environment and the flags, later ones winning key by key. It always returns
// a whole configuration; Failed(problems) says whether it may be used.
func Load(in LoadInput) (Loaded, []Problem) {
	var l Loaded
	flags, info, problems := ParseFlags(in.Args, in.Own...)
	l.Flags = info
	env, envFile, more := ParseEnv(in.Environ)
	problems = append(problems, more...)

	named := info.ConfigFile
	if named == "" {
		named = envFile
	}
	if l.File = named; named == "" {
		var more []Problem
		l.File, more = search(in)
		problems = append(problems, more...)
	}
	if l.File != "" {
		file, more := ParseFile(l.File)
		problems = append(problems, more...)
		if file != nil {
			file, l.Routing = splitRouting(file)
			l.layers = append(l.layers, file)
		}
	}
	l.layers = append(l.layers, env, flags)

	s, more := decodeLayers(l.layers, "")
	problems = append(problems, more...)
	l.Written, _ = decodeLayers(l.layers, "")
	if !Failed(problems) { // else the mistakes that follow are only echoes
		problems = append(problems, s.Normalize()...)
		problems = append(problems, routingAllowed(s, l.Routing)...)
	} else {
		s.Normalize()
	}
	l.Static = s
	l.reported = make(map[string]bool, len(problems))
	for _, p := range problems {
		l.reported[p.String()] = true
	}
	return l, problems
}

// Failed says whether any of the problems is more than a warning.
func Failed(problems []Problem) bool {
	return slices.ContainsFunc(problems, func(p Problem) bool { return !p.Warning })
}

// decodeLayers puts layers on top of the defaults. Unknown keys of the
// provider lenient are warnings.
func decodeLayers(layers []*Node, lenient string) (*Static, []Problem) {
	s := Defaults()
	s.origins = map[string]Origin{}
	var problems []Problem
	for _, n := range layers {
		d := decoder{origins: s.origins, lenient: lenient}
		problems = append(problems, d.run(n, s)...)
	}
	return s, problems
}

// search looks for a configuration file in the usual folders.
func search(in LoadInput) (string, []Problem) {
	folders := in.Search
	if folders == nil {
		folders = []string{"/etc/gatehouse", "/etc/traefik"}
		for _, entry := range in.Environ {
			if home, ok := strings.CutPrefix(entry, "HOME="); ok && home != "" {
				folders = append(folders, filepath.Join(home, ".gatehouse"), filepath.Join(home, ".traefik"))
			}
		}
		folders = append(folders, ".")
	}
	for _, folder := range folders {
		for _, name := range []string{"gatehouse.toml", "gatehouse.yaml", "gatehouse.yml", "traefik.toml"} {
			path := filepath.Join(folder, name)
			_, err := os.Stat(path)
			if err == nil {
				return path, nil
			}
			if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) && !strings.Contains(err.Error(), "not a directory") {
				return "", []Problem{{
					Origin:  Origin{Provider: "file", Source: path},
					Message: "cannot be read: " + reason(err),
				}}
			}
		}
	}
	return "", nil
}

// splitRouting takes the routing sections out of a file.
func splitRouting(file *Node) (static, routing *Node) {
	static = &Node{Kind: Map, Origin: file.Origin}
	rest := &Node{Kind: Map, Origin: file.Origin}
	for _, f := range file.Fields {
		if slices.ContainsFunc(routingSections, func(s string) bool { return strings.EqualFold(s, f.Name) }) {
			rest.Fields = append(rest.Fields, f)
			continue
		}
		static.Fields = append(static.Fields, f)
	}
	if rest.Fields == nil {
		return static, nil
	}
	return static, rest
}

// routingAllowed refuses routing sections that nobody would read.
func routingAllowed(s *Static, routing *Node) []Problem {
	if routing == nil || s.File != nil && s.File.Filename == "" && s.File.Directory == "" {
		return nil
	}
	var out []Problem
	for _, f := range routing.Fields {
		p := Problem{
			Origin:  f.Origin,
			Object:  "key " + f.Name,
			Message: "routing configuration in the static file, and no section [file] that reads it",
			Allowed: "add [file]",
		}
		if s.File != nil {
			p.Message = "routing configuration in the static file, but [file] reads another"
			p.Allowed = "move it there, or remove file.filename and file.directory"
		}
		out = append(out, p)
	}
	return out
}

// connection are the keys that say how the store was reached: what the store
// itself says about them is only reported.
var connection = []string{
	"etcd.endpoint", "etcd.prefix", "etcd.username", "etcd.password", "etcd.tls", "etcd.useAPIV3",
	"store.kind", "store.directory", "store.prefix", "store.ttl", "store.endpoint", "store.username", "store.password", "store.tls",
}

// Overlay puts the static tree of the key-value store on top of everything
// else, except the settings that reached the store: where it disagrees about
// those, differences says so, in words. Only problems that Load has not
// reported are returned; unknown keys in the store are warnings. kv is Weak;
// bare integers for durations are nanoseconds. The Loaded itself is not
// changed, so Overlay can be called again with a newer tree.
func (l *Loaded) Overlay(kv *Node) (s *Static, problems []Problem, differences []string) {
	if kv == nil {
		return l.Static, nil, nil
	}
	whole := *kv
	whole.Weak, whole.Nanos = true, true
	theirs, _ := decodeLayers(append(slices.Clone(l.layers), &whole), kv.Origin.Provider)
	kept := &whole
	for _, key := range connection {
		path := strings.Split(key, ".")
		if !theirs.written(key) || nodeAt(kept, path) == nil {
			continue
		}
		kept = without(kept, path)
		ours, okOurs := lookup(reflect.ValueOf(l.Written), path)
		said, okSaid := lookup(reflect.ValueOf(theirs), path)
		if okOurs && okSaid && reflect.DeepEqual(ours.Interface(), said.Interface()) {
			continue
		}
		differences = append(differences, fmt.Sprintf("%s: the store says %s, in force stays %s", key, show(said), show(ours)))
	}
	s, decoded := decodeLayers(append(slices.Clone(l.layers), kept), kv.Origin.Provider)
	for _, p := range append(decoded, s.Normalize()...) {
		if !l.reported[p.String()] {
			problems = append(problems, p)
		}
	}
	return s, problems, differences
}

// show is a setting in words, secrets redacted.
func show(v reflect.Value) string {
	switch {
	case !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil():
		return "nothing"
	case v.Kind() == reflect.Pointer:
		return fmt.Sprintf("%+v", v.Elem().Interface())
	case v.Kind() == reflect.String:
		return fmt.Sprintf("%q", v.Interface())
	}
	return fmt.Sprint(v.Interface())
}

// nodeAt follows a path of keys.
func nodeAt(n *Node, path []string) *Node {
	for _, name := range path {
		n = n.Get(name)
	}
	return n
}

// without is the tree less one key.
func without(n *Node, path []string) *Node {
	out := *n
	out.Fields = nil
	for _, f := range n.Fields {
		if strings.EqualFold(f.Name, path[0]) {
			if len(path) == 1 {
				continue
			}
			f.Node = without(f.Node, path[1:])
		}
		out.Fields = append(out.Fields, f)
	}
	return &out
}
