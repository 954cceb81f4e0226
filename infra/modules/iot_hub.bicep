// IoT Hub, the consumer group of function_app.py, and the routes. A message that matches any route leaves the way to
// the built-in endpoint, which feeds the function: so that way is a route of its own, and the fallback stays enabled.
param location string
param tags object
param suffix string
param sku string
param units int
param identityId string
param blobEndpoint string
param rawContainer string

// The free tier takes no endpoint beside the built-in one, and has two partitions and one day of retention.
var isFree = sku == 'F1'
var toEvents = {
  name: 'telemetry'
  source: 'DeviceMessages'
  condition: 'true'
  endpointNames: ['events']
  isEnabled: true
}
var toBlobs = {
  name: 'raw-telemetry'
  source: 'DeviceMessages'
  condition: 'true'
  endpointNames: ['raw']
  isEnabled: true
}

resource hub 'Microsoft.Devices/IotHubs@2023-06-30' = {
  name: 'iot-${suffix}'
  location: location
  tags: tags
  sku: { name: sku, capacity: units }
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identityId}': {} }
  }
  properties: {
    minTlsVersion: '1.2'
    eventHubEndpoints: {
      events: {
        partitionCount: isFree ? 2 : 4
        retentionTimeInDays: isFree ? 1 : 7
      }
    }
    routing: {
      endpoints: {
        storageContainers: isFree ? [] : [
          {
            name: 'raw'
            endpointUri: blobEndpoint
            containerName: rawContainer
            authenticationType: 'identityBased'
            identity: { userAssignedIdentity: identityId }
            encoding: 'Avro'
            fileNameFormat: '{iothub}/{YYYY}/{MM}/{DD}/{HH}/{mm}_{partition}.avro'
            batchFrequencyInSeconds: 300
            maxChunkSizeInBytes: 104857600
          }
        ]
      }
      routes: isFree ? [toEvents] : [toEvents, toBlobs]
      fallbackRoute: {
        name: '$fallback'
        source: 'DeviceMessages'
        condition: 'true'
        endpointNames: ['events']
        isEnabled: true
      }
    }
  }
}

resource consumerGroup 'Microsoft.Devices/IotHubs/eventHubEndpoints/ConsumerGroups@2023-06-30' = {
  name: '${hub.name}/events/enviromon'
  properties: { name: 'enviromon' }
}

output name string = hub.name
output eventHubName string = hub.properties.eventHubEndpoints.events.path
