// SignalR Service, serverless: functions send by REST, browsers connect. The app's identity is its only key.
param location string
param tags object
param suffix string
param sku string
param units int
param ownerId string
param dashboardOrigin string

// SignalR Service Owner: what the Functions bindings ask for.
var signalRServiceOwner = '7e4f1700-ea5a-4f59-8f37-079cfe29dce3'

resource service 'Microsoft.SignalRService/signalR@2024-03-01' = {
  name: 'sigr-${suffix}'
  location: location
  tags: tags
  kind: 'SignalR'
  sku: { name: sku, capacity: units }
  properties: {
    cors: { allowedOrigins: [dashboardOrigin] }
    disableLocalAuth: true
    features: [
      { flag: 'ServiceMode', value: 'Serverless' }
    ]
    tls: { clientCertEnabled: false }
  }
}

resource mayOwn 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(service.id, ownerId, signalRServiceOwner)
  scope: service
  properties: {
    principalId: ownerId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', signalRServiceOwner)
  }
}

output endpoint string = 'https://${service.properties.hostName}'
