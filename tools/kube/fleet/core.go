package main

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	api "k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	"k8s.io/kubernetes/pkg/apis/discovery"
	_ "k8s.io/kubernetes/pkg/apis/discovery/install"
	configmaps "k8s.io/kubernetes/pkg/registry/core/configmap/storage"
	namespaces "k8s.io/kubernetes/pkg/registry/core/namespace/storage"
	"k8s.io/kubernetes/pkg/registry/core/service"
	slices "k8s.io/kubernetes/pkg/registry/discovery/endpointslice/storage"
)

// installCore serves what a controller looks at beside custom resources. Services get no address: who
// creates one says it.
func installCore(server *genericapiserver.GenericAPIServer, keeper generic.RESTOptionsGetter) error {
	namespaces, _, _, err := namespaces.NewREST(keeper)
	if err != nil {
		return err
	}
	configmaps, err := configmaps.NewREST(keeper)
	if err != nil {
		return err
	}
	services := &registry.Store{
		NewFunc:                   func() runtime.Object { return &api.Service{} },
		NewListFunc:               func() runtime.Object { return &api.ServiceList{} },
		DefaultQualifiedResource:  api.Resource("services"),
		SingularQualifiedResource: api.Resource("service"),
		CreateStrategy:            service.Strategy,
		UpdateStrategy:            service.Strategy,
		DeleteStrategy:            service.Strategy,
		TableConvertor:            rest.NewDefaultTableConvertor(api.Resource("services")),
	}
	if err := services.CompleteWithOptions(&generic.StoreOptions{RESTOptions: keeper}); err != nil {
		return err
	}
	core := genericapiserver.NewDefaultAPIGroupInfo(api.GroupName, legacyscheme.Scheme, legacyscheme.ParameterCodec, legacyscheme.Codecs)
	core.VersionedResourcesStorageMap["v1"] = map[string]rest.Storage{
		"namespaces": namespaces,
		"configmaps": configmaps,
		"services":   services,
	}
	if err := server.InstallLegacyAPIGroup(genericapiserver.DefaultLegacyAPIPrefix, &core); err != nil {
		return err
	}

	slices, err := slices.NewREST(keeper)
	if err != nil {
		return err
	}
	endpoints := genericapiserver.NewDefaultAPIGroupInfo(discovery.GroupName, legacyscheme.Scheme, legacyscheme.ParameterCodec, legacyscheme.Codecs)
	endpoints.VersionedResourcesStorageMap["v1"] = map[string]rest.Storage{"endpointslices": slices}
	return server.InstallAPIGroup(&endpoints)
}
