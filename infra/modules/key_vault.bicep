// The two secrets there are. IoT Hub's built-in endpoint knows no managed identity: the function app reads it with the
// policy `service`, which may connect as a service and can neither read nor write the registry of devices.
param location string
param tags object
param suffix string
param readerId string
param iotHubName string
@secure()
param readKey string

var readKeySecret = 'read-key'
// Key Vault Secrets User: may read the secrets' values.
var keyVaultSecretsUser = '4633458b-17de-408a-b874-0445c86b69e6'

resource hub 'Microsoft.Devices/IotHubs@2023-06-30' existing = {
  name: iotHubName
}

// Without purge protection, so that `azd down --purge` leaves nothing behind.
resource vault 'Microsoft.KeyVault/vaults@2024-11-01' = {
  name: 'kv-${suffix}'
  location: location
  tags: tags
  properties: {
    tenantId: tenant().tenantId
    sku: { family: 'A', name: 'standard' }
    enableRbacAuthorization: true
    enableSoftDelete: true
    softDeleteRetentionInDays: 7
  }
}

resource eventsConnection 'Microsoft.KeyVault/vaults/secrets@2024-11-01' = {
  parent: vault
  name: 'iot-hub-events'
  properties: {
    value: 'Endpoint=${hub.properties.eventHubEndpoints.events.endpoint};SharedAccessKeyName=service;SharedAccessKey=${first(filter(hub.listkeys().value, key => key.keyName == 'service')).primaryKey};EntityPath=${hub.properties.eventHubEndpoints.events.path}'
  }
}

resource reading 'Microsoft.KeyVault/vaults/secrets@2024-11-01' = if (!empty(readKey)) {
  parent: vault
  name: readKeySecret
  properties: { value: readKey }
}

resource readerMayRead 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(vault.id, readerId, keyVaultSecretsUser)
  scope: vault
  properties: {
    principalId: readerId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', keyVaultSecretsUser)
  }
}

output name string = vault.name
// Without a version: a rotated key is taken up by itself, within a day.
output eventsConnectionUri string = '${vault.properties.vaultUri}secrets/${eventsConnection.name}'
output readKeyUri string = '${vault.properties.vaultUri}secrets/${readKeySecret}'
