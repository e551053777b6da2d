package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/config"
	"gatehouse/internal/store/kubestore"
)

// One Secret holds one certificate: the first that is wished for there.
func TestDeliveries(t *testing.T) {
	wish := func(namespace, secret string) config.Wish {
		return config.Wish{Secret: config.SecretName{Namespace: namespace, Name: secret}}
	}
	d := deliveries{}
	for i, c := range []struct {
		wish    config.Wish
		names   []string
		refused bool
	}{
		{wish("shop", "tls"), []string{"b.example.com", "A.example.com"}, false},
		{wish("shop", "tls"), []string{"a.example.com", "b.example.com"}, false},
		{wish("shop", "tls"), []string{"c.example.com"}, true},
		{wish("bank", "tls"), []string{"c.example.com"}, false},
		{wish("shop", ""), []string{"d.example.com"}, false},
		{wish("shop", "bad"), []string{"not a name"}, false},
	} {
		if p := d.add(c.wish, c.names); (p != nil) != c.refused {
			t.Errorf("wish %d: problem %v", i, p)
		}
	}
	want := deliveries{
		{Namespace: "shop", Name: "tls"}: kubestore.Delivery{Namespace: "shop", Name: "tls", Names: []string{"a.example.com", "b.example.com"}},
		{Namespace: "bank", Name: "tls"}: kubestore.Delivery{Namespace: "bank", Name: "tls", Names: []string{"c.example.com"}},
	}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Errorf("deliveries (-want +got):\n%s", diff)
	}
}
