package config

import (
	"reflect"
	"strings"
)

// OwnFlag is a flag of one verb that is no part of the static configuration.
type OwnFlag struct {
	Name       string // without dashes: "dry-run"
	TakesValue bool
}

// FlagInfo is what a command line says beside configuration.
type FlagInfo struct {
	ConfigFile string            // -c, --configFile; "": not given
	Help       bool              // -h, --help
	HelpAll    bool              // --help=all
	Own        map[string]string // own flags given, "true" for those without a value
	Args       []string          // what is no flag
}

// shortFlags are the letters of Traefik 1.x.
var shortFlags = map[string]string{"c": "configFile", "d": "debug", "g": "lifeCycle.graceTimeOut", "l": "logLevel", "h": "help"}

// ParseFlags turns a command line (without program and verb) into a Node of
// the static schema. Names are dotted and matched case-insensitively; a value
// follows = or is the next argument, but a switch (a bool, or a section) takes
// only the = form. own are flags of the verb itself.
func ParseFlags(args []string, own ...OwnFlag) (*Node, FlagInfo, []Problem) {
	p := flagParser{
		tree: newTree(Origin{Provider: "flag", Source: "command line"}),
		info: FlagInfo{Own: map[string]string{}},
		own:  own,
	}
	for i := 0; i < len(args); i++ {
		if args[i] == "--" {
			p.info.Args = append(p.info.Args, args[i+1:]...)
			break
		}
		if len(args[i]) < 2 || args[i][0] != '-' {
			p.info.Args = append(p.info.Args, args[i])
			continue
		}
		i += p.flag(args[i], args[i+1:])
	}
	return p.tree.root, p.info, p.problems
}

type flagParser struct {
	tree     tree
	info     FlagInfo
	own      []OwnFlag
	problems []Problem
}

func (p *flagParser) report(o Origin, object, message, allowed string) {
	p.problems = append(p.problems, Problem{Origin: o, Object: object, Message: message, Allowed: allowed})
}

// flag takes one flag and tells how many of the arguments after it were its.
func (p *flagParser) flag(arg string, rest []string) (taken int) {
	name, value, hasValue := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
	o := Origin{Provider: "flag", Source: "command line", Key: strings.TrimSuffix(arg[:len(arg)-len(value)], "=")}
	if !strings.HasPrefix(arg, "--") {
		long, ok := shortFlags[name]
		if !ok {
			p.report(o, "", "unknown flag", "-c, -d, -g, -l, -h; long names begin with two dashes")
			return 0
		}
		name = long
	}
	next := func() (string, bool) {
		if hasValue {
			return value, true
		}
		if len(rest) == 0 || strings.HasPrefix(rest[0], "--") {
			p.report(o, "", "needs a value", "--"+name+"=VALUE")
			return "", false
		}
		taken = 1
		return rest[0], true
	}
	if p.special(name, value, o, next) {
		return taken
	}
	to, at, known := resolve(reflect.TypeFor[Static](), strings.Split(name, "."))
	if at >= 0 {
		p.report(o, "", "unknown flag", p.unknownHelp(name, at, to.path, known))
		return 0
	}
	text := "true"
	if hasValue || !to.isSwitch() {
		var ok bool
		if text, ok = next(); !ok {
			return 0
		}
	}
	n, notes := leaf(text, o)
	p.problems = append(p.problems, notes...)
	if to.typ == reflect.TypeFor[map[string]*EntryPoint]() {
		p.entryPoint(n.Value.(string), o)
		return taken
	}
	p.tree.set(to.path, n, to.grows())
	return taken
}

// special takes the flags that are no keys.
func (p *flagParser) special(name, value string, o Origin, next func() (string, bool)) bool {
	for _, own := range p.own {
		if !strings.EqualFold(own.Name, name) {
			continue
		}
		text := "true"
		if own.TakesValue {
			var ok bool
			if text, ok = next(); !ok {
				return true
			}
		} else if value != "" {
			on, ok := weakBool(value)
			if !ok {
				p.report(o, "", "takes no value", "--"+own.Name)
				return true
			}
			if !on {
				return true
			}
		}
		p.info.Own[own.Name] = text
		return true
	}
	switch strings.ToLower(name) {
	case "help":
		p.info.Help = true
		p.info.HelpAll = p.info.HelpAll || strings.EqualFold(value, "all")
	case "configfile":
		if text, ok := next(); ok {
			n, notes := leaf(text, o)
			p.problems = append(p.problems, notes...)
			p.info.ConfigFile = n.Value.(string)
			if p.info.ConfigFile == "" {
				p.report(o, "", "needs a value", "-c FILE")
			}
		}
	default:
		return false
	}
	return true
}

// unknownHelp suggests what an unknown flag may have been meant to be.
func (p *flagParser) unknownHelp(name string, at int, path, known []string) string {
	if known == nil {
		return "--" + strings.Join(path, ".") + " has no keys below it; see --help=all"
	}
	if at == 0 {
		known = append(known, "configFile", "help")
		for _, own := range p.own {
			known = append(known, own.Name)
		}
	}
	part := strings.Split(name, ".")[at]
	near := nearest(part, known)
	if near == "" {
		return "see --help=all"
	}
	return "did you mean --" + strings.Join(append(path, near), ".") + "? see --help=all"
}

// entryPointWords are the 1.x words of an entry point's text that are not its
// keys.
var entryPointWords = map[string]string{
	"ca":                          "tls.clientCA.files",
	"ca.optional":                 "tls.clientCA.optional",
	"tls.defaultcertificate.cert": "tls.defaultCertificate.certFile",
	"tls.defaultcertificate.key":  "tls.defaultCertificate.keyFile",
}

// entryPoint reads Traefik 1.x's one-line form of an entry point:
// "Name:http Address::80 Redirect.EntryPoint:https TLS:cert,key;cert2,key2".
func (p *flagParser) entryPoint(text string, o Origin) {
	one := newTree(o)
	name := ""
	for word := range strings.FieldsSeq(text) {
		key, value, hasValue := strings.Cut(word, ":")
		lower := strings.ToLower(key)
		if lower == "name" {
			name = value
			continue
		}
		if long, ok := entryPointWords[lower]; ok {
			key = long
		}
		if lower == "tls" && hasValue {
			key = "tls.certificates"
		}
		to, at, known := resolve(reflect.TypeFor[EntryPoint](), strings.Split(key, "."))
		if at >= 0 {
			p.report(o, "entry point "+name, "unknown word "+key, suggest(key, append(known, "name", "ca")))
			continue
		}
		if !hasValue {
			value = "true"
			if !to.isSwitch() {
				p.report(o, "entry point "+name, key+" needs a value", key+":VALUE")
				continue
			}
		}
		one.set(to.path, &Node{Value: value, Origin: o, Weak: true}, to.grows())
	}
	if name == "" {
		p.report(o, "", "an entry point without a name", "Name:http Address::80")
		return
	}
	p.tree.set([]string{"entryPoints", name}, one.root, false)
}
