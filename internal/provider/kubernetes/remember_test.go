package kubernetes

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"

	"gatehouse/internal/config"
	"gatehouse/internal/store"
)

// change changes something at random, as the API server would: objects are
// replaced, never modified. It tells of what; of slices, the Service.
func (r tenant) change(o *Objects, secrets []*Secret) (what string, service Name) {
	fresh := r.objects()
	switch kind := r.IntN(10); {
	case kind == 0 && len(o.Ingresses) > 0: // gone
		i := r.IntN(len(o.Ingresses))
		o.Ingresses = slices.Delete(slices.Clone(o.Ingresses), i, i+1)
		return "an Ingress less", service
	case kind <= 3:
		in := fresh.Ingresses[0]
		in.Name.Name = fmt.Sprint("in", r.IntN(5))
		r.secretly(in)
		o.Ingresses = replaced(o.Ingresses, in, func(x *Ingress) Name { return x.Name })
		return "an Ingress", service
	case kind == 4 && len(fresh.Services) > 0:
		o.Services = replaced(o.Services, fresh.Services[0], func(x *Service) Name { return x.Name })
		return "a Service", service
	case kind == 5 && len(o.Services) > 0:
		i := r.IntN(len(o.Services))
		o.Services = slices.Delete(slices.Clone(o.Services), i, i+1)
		return "a Service less", service
	case kind == 6:
		s := secrets[r.IntN(len(secrets))]
		s = &Secret{Name: Name{r.namespace, "tls"}, Data: s.Data}
		o.Secrets = replaced(o.Secrets, s, func(x *Secret) Name { return x.Name })
		return "a Secret", service
	case kind == 7:
		o.Unread = nil
		if r.IntN(3) == 0 {
			o.Unread = map[string]error{r.pick("secrets", "services", "endpointslices", "ingressclasses"): errors.New("forbidden")}
		}
		return "rights", service
	case len(fresh.Slices) > 0:
		s := fresh.Slices[0]
		s.Endpoints = append(s.Endpoints, Endpoint{Address: fmt.Sprintf("10.9.0.%d", r.IntN(3)), Leaving: r.IntN(2) == 0})
		o.Slices = replaced(o.Slices, s, func(x *Slice) Name { return x.Name })
		return "", s.serves()
	}
	return "nothing", service
}

// secretly has an Ingress bring a certificate, also for hosts nobody names.
func (r tenant) secretly(in *Ingress) {
	if r.IntN(2) == 0 {
		in.Spec.TLS = append(in.Spec.TLS, networkingv1.IngressTLS{Hosts: []string{r.pick("shop.example.com", "b.example.com")}, SecretName: "tls"})
	}
}

func replaced[T any](list []*T, with *T, name func(*T) Name) []*T {
	list = slices.DeleteFunc(slices.Clone(list), func(x *T) bool { return name(x) == name(with) })
	at, _ := slices.BinarySearchFunc(list, with, func(a, b *T) int { return name(a).compare(name(b)) })
	return slices.Insert(list, at, with)
}

// What is remembered makes no difference: after any changes the result is that of
// a translator which has seen nothing else.
func TestRemembered(t *testing.T) {
	pair := &Secret{Data: map[string][]byte{}}
	for key, file := range map[string]string{"tls.crt": "testdata/shop.crt", "tls.key": "testdata/shop.key"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pair.Data[key] = text
	}
	secrets := []*Secret{pair, {Data: map[string][]byte{"auth": []byte("a:$apr1$x$y")}}}
	kept, moves, brought := 0, 0, 0
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 3))
		tenants := []tenant{{r, "one", time.Unix(0, 0)}, {r, "two", time.Unix(40, 0)}}
		var o Objects
		for _, tenant := range tenants {
			made := tenant.objects()
			o.Ingresses, o.Services, o.Slices = append(o.Ingresses, made.Ingresses...), append(o.Services, made.Services...), append(o.Slices, made.Slices...)
		}
		var tr Translator
		last := tr.Translate(o, Settings{})
		for range 20 {
			what, service := tenants[r.IntN(2)].change(&o, secrets)
			now, ok := last, false
			if what == "" {
				before := last.Routing
				now, _, ok = tr.Endpoints(last, map[Name]bool{service: true}, func(s Name) []*Slice { return newIndex(o).slices[s] })
				if moves++; !reflect.DeepEqual(before, last.Routing) {
					t.Fatalf("seed %d: what was published changed", seed)
				}
			}
			if !ok {
				before := tr.parts
				now = tr.Translate(o, Settings{})
				for name, p := range tr.parts {
					if before[name] == p {
						kept++
					}
				}
			}
			scratch := new(Translator).Translate(o, Settings{})
			if !reflect.DeepEqual(now.Routing, scratch.Routing) || !reflect.DeepEqual(now.Secrets, scratch.Secrets) || !slices.Equal(now.Ours, scratch.Ours) ||
				!slices.EqualFunc(now.Findings, scratch.Findings, func(a, b Finding) bool { return a == b }) {
				t.Fatalf("seed %d, after a change of %q:\n%s\nfrom scratch:\n%s", seed, what, tell(t, now), tell(t, scratch))
			}
			brought += len(now.Routing.Certificates)
			last = now
		}
	}
	if kept < 400 || moves < 100 || brought < 40 {
		t.Errorf("%d parts were kept, endpoints moved %d times, %d certificates were brought: the test tests little", kept, moves, brought)
	}
}

// A change of one Ingress does again that one, and those it takes something from.
func TestOneIngressChanges(t *testing.T) {
	o := many(50)
	var tr Translator
	tr.Translate(o, Settings{})
	before := tr.parts
	o.Ingresses[7] = new(*o.Ingresses[7])
	tr.Translate(o, Settings{})
	for name, p := range tr.parts {
		if (before[name] == p) == (name == o.Ingresses[7].Name) {
			t.Errorf("%s: remembered %v", name, before[name] == p)
		}
	}
}

// What the API's objects are stripped to says the same in the copy, which is sealed
// where there are keys.
func TestCopy(t *testing.T) {
	file := t.TempDir() + "/copy.json.gz"
	keys, err := store.ParseRing(base64.StdEncoding.EncodeToString(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(20) {
		o := tenant{rand.New(rand.NewPCG(seed, 4)), "one", time.Unix(0, 0).UTC()}.objects()
		o.Classes = []*Class{{Name: "edge", Controller: Controller, Default: true}}
		o.Secrets = []*Secret{{Name: Name{"one", "tls"}, Ours: true, Data: map[string][]byte{"tls.crt": {1}}}}
		var ring store.Ring
		if seed%2 == 1 {
			ring = keys
		}
		if err := writeCopy(file, ring, o); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil || (store.SealedUnder(text) != "") != (seed%2 == 1) {
			t.Fatalf("seed %d: sealed under %q, %v", seed, store.SealedUnder(text), err)
		}
		if _, err := readCopy(file, store.Ring{}); (err != nil) != (seed%2 == 1) {
			t.Fatalf("seed %d: without the key: %v", seed, err)
		}
		back, err := readCopy(file, keys)
		if err != nil {
			t.Fatal(err)
		}
		var want, got config.Routing = new(Translator).Translate(o, Settings{}).Routing, new(Translator).Translate(back, Settings{}).Routing
		if !reflect.DeepEqual(want, got) || !reflect.DeepEqual(o.Classes, back.Classes) || !reflect.DeepEqual(o.Secrets, back.Secrets) {
			t.Fatalf("seed %d: the copy says something else", seed)
		}
	}
}
