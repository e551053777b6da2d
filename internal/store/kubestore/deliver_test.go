package kubestore

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"gatehouse/e2e/rig/kube"
	"gatehouse/internal/kubeclient"
	"gatehouse/internal/store"
)

// certificate makes one that lasts for so many days, as chain, "|", key.
func certificate(t *testing.T, days int, names ...string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(int64(days)), DNSNames: names, NotAfter: time.Now().AddDate(0, 0, days)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return slicesJoin(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

func slicesJoin(chain, key []byte) []byte { return bytes.Join([][]byte{chain, key}, []byte("|")) }

func cutPair(value []byte) (chain, key []byte, ok bool) { return bytes.Cut(value, []byte("|")) }

// Certificates go into Secrets that others named, follow renewals, and never
// over what somebody else put there.
func TestDeliverer(t *testing.T) {
	k := kube.Start(t)
	space := k.Namespace(t)
	client, err := kubeclient.Open(kubeclient.Options{Kubeconfig: k.Kubeconfig})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	k.Apply(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: theirs, namespace: "+space+"}\ntype: kubernetes.io/tls\nstringData: {tls.crt: a, tls.key: b}\n")
	from := store.NewMem(time.Minute).Replica("a")
	first, err := from.Put(t.Context(), "certificates/le/1", certificate(t, 10, "a.example.com", "b.example.com"), "")
	if err != nil {
		t.Fatal(err)
	}
	d := NewDeliverer(DelivererOptions{Client: client, Store: from, Pair: cutPair})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = d.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	d.Want([]Delivery{
		{space, "mine", []string{"b.example.com", "a.example.com"}}, {space, "theirs", []string{"a.example.com", "b.example.com"}},
		{"nowhere", "mine", []string{"a.example.com", "b.example.com"}}, {space, "later", []string{"w.example.org"}},
	})
	serial := func(name string) string {
		secret, err := kubeclient.Secrets(client).Get(t.Context(), space, name)
		if err != nil {
			return err.Error()
		}
		pair, err := tls.X509KeyPair(secret.Data["tls.crt"], secret.Data["tls.key"])
		if err != nil || secret.Type != "kubernetes.io/tls" || secret.Labels[labelManaged] != managedBy {
			return fmt.Sprint(secret.Type, secret.Labels, err)
		}
		return pair.Leaf.SerialNumber.String()
	}
	is := func(name, want string) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); !strings.Contains(serial(name), want); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("secret %s holds %s, want %s", name, serial(name), want)
			}
		}
	}
	is("mine", "10")
	is("later", "not found")
	if _, err := from.Put(t.Context(), "certificates/le/1", certificate(t, 90, "a.example.com", "b.example.com"), first); err != nil {
		t.Fatal(err)
	}
	is("mine", "90")
	if _, err := from.Put(t.Context(), "certificates/le/2", certificate(t, 60, "w.example.org", "*.example.org"), ""); err != nil {
		t.Fatal(err)
	}
	is("later", "not found") // its key is not for whoever has one name of it
	if _, err := from.Put(t.Context(), "certificates/le/3", certificate(t, 30, "W.example.org"), ""); err != nil {
		t.Fatal(err)
	}
	is("later", "30")
	troubles := d.Troubles()
	if len(troubles) != 2 || !errors.Is(troubles[space+"/theirs"], errForeign) || !kubeclient.Gone(troubles["nowhere/mine"]) {
		t.Errorf("troubles: %v", troubles)
	}
	theirs, err := kubeclient.Secrets(client).Get(t.Context(), space, "theirs")
	if err != nil || string(theirs.Data["tls.crt"]) != "a" {
		t.Errorf("somebody else's Secret was touched: %v, %v", theirs, err)
	}
}
