// Two identities, since two services act: the function app, and the hub that writes raw telemetry to blobs.
param location string
param tags object
param suffix string

resource app 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: 'id-app-${suffix}'
  location: location
  tags: tags
}

resource hub 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: 'id-hub-${suffix}'
  location: location
  tags: tags
}

output appIdentityId string = app.id
output appClientId string = app.properties.clientId
output appPrincipalId string = app.properties.principalId
output hubIdentityId string = hub.id
output hubPrincipalId string = hub.properties.principalId
