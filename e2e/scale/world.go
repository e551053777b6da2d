package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"golang.org/x/sync/errgroup"

	"gatehouse/e2e/rig/kube"
)

// spaces is how many namespaces the Ingresses are spread over.
const spaces = 20

// own is the namespace of Gatehouse's store.
const own = "gatehouse"

// world is what the API server holds: Ingresses with a Service and two slices
// each, written as kubectl and the endpoints controller write them.
type world struct {
	*kube.Kube
	size    int
	address string   // of the origins
	ports   [2]int   // of the two origins
	owners  []string // UIDs of the Services, without which their slices are collected
}

// object is one of the API's, as JSON.
type object = map[string]any

func space(i int) string { return fmt.Sprintf("team-%d", i%spaces) }
func app(i int) string   { return fmt.Sprintf("app%d", i) }
func host(i int) string  { return app(i) + ".example.com" }

// fill creates everything.
func (w *world) fill(ctx context.Context) error {
	w.owners = make([]string, w.size)
	names := []string{own}
	for i := range min(spaces, w.size) {
		names = append(names, space(i))
	}
	for _, name := range names {
		if err := w.Do(ctx, http.MethodPost, "/api/v1/namespaces", object{"metadata": object{"name": name}}, nil); err != nil {
			return err
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(24)
	for i := range w.size {
		g.Go(func() error { return w.create(ctx, i) })
	}
	return g.Wait()
}

// create makes the objects of one Ingress, itself last.
func (w *world) create(ctx context.Context, i int) error {
	service := applied(i, "v1", "Service", object{"clusterIP": "None",
		"ports": []any{object{"name": "http", "port": 80, "targetPort": 8080}}})
	var made struct{ Metadata struct{ UID string } }
	if err := w.Do(ctx, http.MethodPost, "/api/v1/namespaces/"+space(i)+"/services", service, &made); err != nil {
		return err
	}
	w.owners[i] = made.Metadata.UID
	for j := range 2 {
		if err := w.Do(ctx, http.MethodPost, slicesOf(i), w.slice(i, j, 0), nil); err != nil {
			return err
		}
	}
	backend := object{"service": object{"name": app(i), "port": object{"number": 80}}}
	ingress := applied(i, "networking.k8s.io/v1", "Ingress", object{"rules": []any{object{"host": host(i),
		"http": object{"paths": []any{object{"path": "/", "pathType": "Prefix", "backend": backend}}}}}})
	return w.Do(ctx, http.MethodPost, "/apis/networking.k8s.io/v1/namespaces/"+space(i)+"/ingresses", ingress, nil)
}

// applied is an object as "kubectl apply" leaves it.
func applied(i int, version, kind string, spec object) object {
	meta := object{"name": app(i), "namespace": space(i), "labels": object{
		"app.kubernetes.io/name": app(i), "app.kubernetes.io/instance": "production", "app.kubernetes.io/managed-by": "Helm",
		"helm.sh/chart": "app-1.2.3", "team": space(i),
	}}
	o := object{"apiVersion": version, "kind": kind, "metadata": meta, "spec": spec}
	text, _ := json.Marshal(o) // of strings and numbers alone
	meta["annotations"] = object{"kubectl.kubernetes.io/last-applied-configuration": string(text), "meta.helm.sh/release-name": app(i)}
	return o
}

func slicesOf(i int) string {
	return "/apis/discovery.k8s.io/v1/namespaces/" + space(i) + "/endpointslices"
}

// slice j of app i, which leads to one of the origins.
func (w *world) slice(i, j, origin int) object {
	name := fmt.Sprintf("%s-%05d", app(i), j)
	return object{
		"metadata": object{"name": name, "namespace": space(i), "generateName": app(i) + "-", "labels": object{
			"kubernetes.io/service-name": app(i), "endpointslice.kubernetes.io/managed-by": "scale.gatehouse.io", "app.kubernetes.io/name": app(i),
		}, "ownerReferences": []any{object{"apiVersion": "v1", "kind": "Service", "name": app(i), "uid": w.owners[i], "controller": true}},
			"annotations": object{"endpoints.kubernetes.io/last-change-trigger-time": "2026-11-23T10:00:00Z"}},
		"addressType": "IPv4", "ports": []any{object{"name": "http", "port": w.ports[origin], "protocol": "TCP"}},
		"endpoints": []any{object{
			"addresses": []string{w.address}, "conditions": object{"ready": true, "serving": true, "terminating": false},
			"nodeName": fmt.Sprintf("node-%d", j), "zone": fmt.Sprintf("zone-%d", j),
			"targetRef": object{"kind": "Pod", "namespace": space(i), "name": name + "-pod", "uid": "0c1d8f6e-53a0-4a42-8f0b-6d1f5a1f7c22"},
		}},
	}
}

// move makes the slices of app i lead to an origin.
func (w *world) move(ctx context.Context, i, origin int) error {
	for j := range 2 {
		err := w.Do(ctx, http.MethodPut, fmt.Sprintf("%s/%s-%05d", slicesOf(i), app(i), j), w.slice(i, j, origin), nil)
		if err != nil {
			return err
		}
	}
	return nil
}
