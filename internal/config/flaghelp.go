package config

import (
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"
)

// everyday are the flags that the short help shows.
var everyday = []string{
	"logLevel", "entryPoints.<name>.address", "entryPoints.<name>.tls", "entryPoints.<name>.redirect.entryPoint",
	"defaultEntryPoints", "file.filename", "file.directory", "etcd", "etcd.endpoint", "etcd.prefix", "etcd.useAPIV3",
	"store.kind", "store.directory", "acme.email", "acme.entryPoint", "acme.caServer", "acme.domains", "acme.onHostRule",
	"acme.dnsChallenge.provider", "acme.httpChallenge.entryPoint", "localCA", "api", "ping",
}

// FlagHelp explains the flags of the static configuration: those for every
// day, or all.
func FlagHelp(w io.Writer, all bool) error {
	var b strings.Builder
	b.WriteString(`Settings
  Every key of the configuration file is a flag and a variable as well:
      file          [etcd]
                    endpoint = "10.0.0.1:2379"
      flag          --etcd.endpoint=10.0.0.1:2379        (in any case)
      environment   GATEHOUSE_ETCD_ENDPOINT=10.0.0.1:2379
  Later ones win, key by key: defaults, file, environment, flags, key-value store.
  A section alone (--etcd, --api) switches it on and keeps what the file says of it;
  --etcd=false switches it off. Lists: a,b,c. Durations: 500ms, 10s, 1h; a bare number is seconds.

  -c, --configFile FILE   TOML or YAML (.yml, .yaml). Without it: gatehouse.toml, gatehouse.yaml or
                          traefik.toml in /etc/gatehouse, /etc/traefik, ~/.gatehouse, ~/.traefik, .
  -d  --debug   -l  --logLevel LEVEL   -g  --lifeCycle.graceTimeOut DURATION

`)
	shown := listFlags("", reflect.ValueOf(Defaults()).Elem())
	b.WriteString("Flags")
	if !all {
		b.WriteString(" for every day (all: --help=all)")
		shown = filterFlags(shown, everyday)
	}
	b.WriteString("\n")
	t := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for _, f := range shown {
		fmt.Fprintf(t, "  --%s\t%s\n", strings.TrimSpace(f.name+" "+f.takes), f.help)
	}
	t.Flush()
	_, err := io.WriteString(w, b.String())
	return err
}

type flagLine struct{ name, takes, help string }

func filterFlags(list []flagLine, names []string) []flagLine {
	var out []flagLine
	for _, name := range names {
		for _, f := range list {
			if f.name == name {
				out = append(out, f)
			}
		}
	}
	return out
}

// listFlags walks the schema; v holds the defaults.
func listFlags(prefix string, v reflect.Value) []flagLine {
	var out []flagLine
	for _, f := range fieldsOf(v.Type()) {
		name, value := joinKey(prefix, f.name), v.FieldByIndex(f.index)
		line := flagLine{name: name, takes: placeholder(f.typ), help: f.help}
		if f.deprecated {
			line.help = "old name: " + f.help
		}
		if text := defaultText(value); text != "" {
			line.help += " (default " + text + ")"
		}
		out = append(out, line)
		out = append(out, below(name, value)...)
	}
	return out
}

// below lists the flags of a section, wherever it hides.
func below(name string, v reflect.Value) []flagLine {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v = schema{}.fresh(v.Type().Elem())
		}
		return below(name, v.Elem())
	case reflect.Struct:
		return listFlags(name, v)
	case reflect.Map:
		elem := v.Type().Elem()
		if elem.Kind() == reflect.Pointer {
			return below(name+".<name>", schema{}.fresh(elem.Elem()))
		}
		return []flagLine{{name: name + ".<name>", takes: placeholder(elem), help: "one entry"}}
	}
	return nil
}

// placeholder says what a flag takes; nothing for a switch.
func placeholder(t reflect.Type) string {
	switch {
	case t == typeDuration:
		return "DURATION"
	case t.Kind() == reflect.Bool, t.Kind() == reflect.Pointer, t.Kind() == reflect.Struct:
		return ""
	case t == reflect.TypeFor[map[string]*EntryPoint]():
		return "'Name:http Address::80 ...'"
	case t.Kind() == reflect.Map:
		return ""
	case t.Kind() == reflect.Slice:
		return "LIST"
	case t.Kind() == reflect.String:
		return "TEXT"
	default:
		return "NUMBER"
	}
}

// defaultText shows a default worth showing.
func defaultText(v reflect.Value) string {
	if v.IsZero() {
		return ""
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Struct:
		return ""
	case reflect.Slice:
		return strings.ReplaceAll(strings.Trim(fmt.Sprint(v.Interface()), "[]"), " ", ",")
	}
	return fmt.Sprint(v.Interface())
}
